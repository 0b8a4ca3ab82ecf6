"""Homes whose paths are hard on a server: spaces, what a shell reads, other scripts, and no locale but C."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from lorefuse.client import Client
from lorefuse.core.errors import DeployError
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.ports import free_ports
from lorefuse.deploy.runtime import plain_path
from lorefuse.deploy.supervisor import Supervisor
from tests.helpers.synthetic_bundle import World
from tests.serving.conftest import PYTHON_PATH


@pytest.mark.triton
@pytest.mark.skipif(not PYTHON_PATH.exists(), reason=f"no serving environment at {PYTHON_PATH}: make setup")
@pytest.mark.parametrize("name", ["дом", "my home; touch $(x) 'ü' & #1"])
def test_triton_serves_from_any_home(
    name: str, tmp_path: Path, bundles: tuple[Path, Path], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LC_ALL", "LANG"):
        monkeypatch.setenv(variable, "C")
    supervisor = Supervisor(tmp_path / name / "serve", free_ports(), PYTHON_PATH)
    try:
        report = deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
        assert report["max_score_difference"] <= 1e-5
        with Client(supervisor.url) as client:
            assert len(client.recommend("u3").items) == 10
        again = Supervisor(supervisor.serve_path, supervisor.ports, PYTHON_PATH)
        assert again.start()["adopted"], "the running server is found again by its pid file"
    finally:
        assert supervisor.stop()


def test_a_path_that_a_shell_takes_as_it_is_stays(tmp_path: Path) -> None:
    for name in ("home", "a-b_c.d+e@f"):
        assert plain_path(tmp_path / name) == tmp_path / name


def test_other_paths_have_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder_path = tmp_path / "two words"
    folder_path.mkdir()
    (folder_path / "file").touch()
    link = plain_path(folder_path)
    assert (link / "file").is_file()
    assert plain_path(folder_path) == link
    assert str(link).isascii()
    assert plain_path(tmp_path / "two  words") != link
    assert str(plain_path(tmp_path / "дом")).isascii()
    link.unlink()
    link.mkdir()
    with pytest.raises(DeployError, match="is in the way"):
        plain_path(folder_path)
