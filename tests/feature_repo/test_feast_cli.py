"""`feast apply` and its companions, run by hand in a copy of `feature_repo/`."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lorefuse.core.schema import View
from tests.helpers.feature_world import World, make_world

PROJECT_PATH = Path(__file__).resolve().parents[2]
VIEWS = sorted(View)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def repo_path(tmp_path: Path) -> Path:
    """A copy, so that the registry it writes beside itself is not the developer's own."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PROJECT_PATH / "feature_repo", tmp_path / "feature_repo", ignore=ignored))


@pytest.fixture
def feast_here(repo_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Feast's command line in this process, which has paid for Feast's imports already.

    It changes the folder it runs in, the levels of loggers and what is imported; all of that is put back.
    """
    from click.testing import CliRunner
    from feast.cli.cli import cli

    monkeypatch.chdir(repo_path)
    monkeypatch.syspath_prepend(str(repo_path))
    for name in [name for name in sys.modules if name.startswith("rec_")]:
        monkeypatch.delitem(sys.modules, name)
    level = logging.root.level
    yield lambda *arguments: CliRunner().invoke(cli, ["--chdir", str(repo_path), *arguments])
    logging.root.setLevel(level)
    for name in [name for name in sys.modules if name.startswith("rec_")]:
        del sys.modules[name]


def feast(repo_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOREFUSE_")}
    env = {**kept, "PYTHONPATH": str(PROJECT_PATH), "FEAST_USAGE": "False", **more}
    command = [sys.executable, "-c", "from feast.cli.cli import cli; cli()", *arguments]
    return subprocess.run(command, cwd=repo_path, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_apply_then_materialize_by_hand(
    world: World, repo_path: Path, feast_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"LOREFUSE_FEATURE_DATA": str(world.feature_data_path)}
    applied = feast(repo_path, "apply", **named)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    monkeypatch.setenv("LOREFUSE_FEATURE_DATA", str(world.feature_data_path))
    listed = feast_here("feature-views", "list").output.split()
    assert sorted(view for view in VIEWS if view in listed) == VIEWS
    # Ten years after the rows, so that everything is in.
    filled = feast_here("materialize", "1969-12-31T00:00:00", "2012-01-01T00:00:00")
    assert filled.exit_code == 0, filled.output
    made = sorted(path.name for path in (repo_path.parent / ".lorefuse").iterdir())
    assert made == ["feast_online_store.db", "feast_registry.db"]
    again = feast_here("plan")
    assert again.exit_code == 0, again.output


def test_without_a_name_the_last_built_is_taken(
    world: World, repo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps_path = tmp_path / "home" / "cache" / "steps" / "features"
    for n, name in enumerate(("older", "newer")):
        shutil.copytree(world.feature_data_path, steps_path / name)
        os.utime(steps_path / name / "views.json", (n, n))
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LOREFUSE_FEATURE_DATA", raising=False)
    monkeypatch.syspath_prepend(str(repo_path))
    monkeypatch.delitem(sys.modules, "rec_sources", raising=False)
    try:
        assert importlib.import_module("rec_sources").feature_data_path.name == "newer"
    finally:
        sys.modules.pop("rec_sources", None)


def test_without_any_data_it_says_what_to_do(feast_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOREFUSE_FEATURE_DATA", raising=False)
    said = feast_here("apply")
    assert said.exit_code != 0
    assert "LOREFUSE_FEATURE_DATA" in said.output + str(said.exception)
