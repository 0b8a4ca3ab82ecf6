"""Homes that cannot work are refused before anything starts, in one message; all others work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorefuse.core.errors import ConfigError
from lorefuse.core.home import require_writable
from lorefuse.core.settings import settings
from lorefuse.registry.tracking import connect, ensure_experiment
from tests.helpers.shop import pipeline, write_shop


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a\nb", os.fsdecode(b"a\xffb")])
def test_a_path_that_no_url_holds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"cannot have[\s\S]*set LOREFUSE_HOME"):
        settings()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my home", "100% #1 дом & 'co'; $(x)"])
def test_other_paths_hold_a_store(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / name))
    client = connect()
    run = client.create_run(ensure_experiment(client, "x"))
    client.log_text(run.info.run_id, "text", "file.txt")
    assert (tmp_path / name / "mlflow" / "mlflow.db").is_file()
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["file.txt"]
    assert [file.name for file in tmp_path.iterdir()] == [name]  # and nothing beside it


def test_a_home_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "home", Path("/proc/home")):
        with pytest.raises(ConfigError, match="cannot be written to"):
            require_writable(path)
    require_writable(tmp_path / "new" / "home")
    assert not any((tmp_path / "new" / "home").iterdir())


def test_a_home_is_its_owners_alone(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "home")
    assert (tmp_path / "new" / "home").stat().st_mode & 0o077 == 0
    (tmp_path / "old").mkdir(mode=0o755)
    require_writable(tmp_path / "old")
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o755, "what is there stays as its owner made it"


def test_a_run_says_it_at_the_start(tmp_path: Path) -> None:
    preset = write_shop(tmp_path / "shop")
    for home in (tmp_path / "a%20b", preset):
        ended = pipeline(home, preset)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
        assert "The home" in ended.stderr
        assert not ended.stdout


def test_a_relative_home_is_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a child process that runs elsewhere; and an empty name is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOREFUSE_HOME", "mine")
    assert settings().home_path == tmp_path / "mine"
    monkeypatch.chdir("/")
    assert settings().home_path == tmp_path / "mine"
    assert os.environ["LOREFUSE_HOME"] == str(tmp_path / "mine")
    monkeypatch.setenv("LOREFUSE_HOME", "")
    monkeypatch.setenv("LOREFUSE_PROJECT", str(tmp_path))
    assert settings().home_path == tmp_path / ".lorefuse"
