"""`feast apply` and its companions, run by hand in a copy of `feature_repo/`."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lorefuse.contract import View
from tests.unit.features.world import World, make_world

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


def feast(repo_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOREFUSE_")}
    env = {**kept, "PYTHONPATH": str(PROJECT_PATH), "FEAST_USAGE": "False", **more}
    command = [sys.executable, "-c", "from feast.cli.cli import cli; cli()", *arguments]
    return subprocess.run(command, cwd=repo_path, env=env, capture_output=True, text=True, timeout=300, check=False)


def feast_here(repo_path: Path, *arguments: str) -> str:
    """The same command line in this process, which has paid for Feast's imports already; returns what it says."""
    from click.testing import CliRunner
    from feast.cli.cli import cli

    said = CliRunner().invoke(cli, ["--chdir", str(repo_path), *arguments], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    return said.output


def test_apply_then_materialize_by_hand(world: World, repo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"LOREFUSE_FEATURE_DATA": str(world.feature_data_path)}
    applied = feast(repo_path, "apply", **named)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    monkeypatch.setenv("LOREFUSE_FEATURE_DATA", str(world.feature_data_path))
    monkeypatch.syspath_prepend(str(repo_path))
    listed = feast_here(repo_path, "feature-views", "list").split()
    assert sorted(view for view in VIEWS if view in listed) == VIEWS
    # Ten years after the rows, so that everything is in.
    feast_here(repo_path, "materialize", "1969-12-31T00:00:00", "2012-01-01T00:00:00")
    made = sorted(path.name for path in (repo_path.parent / ".lorefuse").iterdir())
    assert made == ["feast_online_store.db", "feast_registry.db"]
    feast_here(repo_path, "plan")


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


def test_without_any_data_it_says_what_to_do(repo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner
    from feast.cli.cli import cli

    monkeypatch.delenv("LOREFUSE_FEATURE_DATA", raising=False)
    for name in [name for name in sys.modules if name.startswith("rec_")]:
        monkeypatch.delitem(sys.modules, name)
    said = CliRunner().invoke(cli, ["--chdir", str(repo_path), "apply"])
    assert said.exit_code != 0
    assert "LOREFUSE_FEATURE_DATA" in said.output + str(said.exception)
