"""An upgrade of Lorefuse while a version answers: its code is renewed when somebody asks, and never at its expense."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorefuse.core.settings import settings
from lorefuse.deploy.state import Stage
from lorefuse.registry.deployment import request
from tests.reliability.conftest import NAME, Harness, Registry, eventually, settled
from tests.reliability.test_reconcile import Load


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the next release; its `serving/` may be changed."""
    shutil.copytree(settings().project_path / "serving", tmp_path / "upgraded" / "serving")
    monkeypatch.setenv("LOREFUSE_PROJECT", str(tmp_path / "upgraded"))
    return tmp_path / "upgraded" / "serving" / "model_repository"


def test_asked_for_again_the_version_gets_the_new_code(
    harness: Harness, registry: Registry, bundles: tuple[Path, Path], upgrade: Path, tmp_path: Path
) -> None:
    first = registry.publish(bundles[0])
    registry.champion(first)
    reconciler = harness.start()
    settled(reconciler, first)
    with Load(harness.supervisor.url) as load:
        with (upgrade / "answer/1/answers.py").open("a") as stream:
            stream.write(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
        request(NAME, first)
        assert eventually(lambda: "serving code of this Lorefuse" in reconciler.states[0].reason)
        assert (tmp_path / "ran").exists()
        (tmp_path / "ran").unlink()
        since = reconciler.states[0].since
        request(NAME, first)  # nothing new this time
        assert eventually(lambda: reconciler.states[0].since != since)
        assert reconciler.states[0].reason == "it answers"
        assert not (tmp_path / "ran").exists()
        with (upgrade / "direct/1/model.py").open("a") as stream:
            stream.write("raise RuntimeError('a release that does not work')\n")
        request(NAME, first)
        assert eventually(lambda: "it goes on with the serving code it had" in reconciler.states[0].reason)
        assert (reconciler.states[0].stage, reconciler.states[0].actual) == (Stage.LIVE, int(first))
        assert eventually(lambda: "goes on" in registry.tags(first).get("reason", ""))
        assert registry.tags(first)["state"] == "live"
    assert load.errors == []
    assert len(load.answers) > 10
