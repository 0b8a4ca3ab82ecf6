"""The serving environment is made whole or made again, and somebody's own is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorefuse.core.errors import DeployError
from lorefuse.deploy.serving_env import make_serving_env


def test_one_that_others_made_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python_path = tmp_path / "theirs" / "bin" / "python"
    python_path.parent.mkdir(parents=True)
    python_path.write_text("not a program, and not asked")
    monkeypatch.setenv("LOREFUSE_SERVE_PYTHON", str(python_path))
    assert make_serving_env() == python_path
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["bin"]


def test_one_that_was_cut_short_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_SERVE_PYTHON", str(tmp_path / "env" / "bin" / "python"))
    for name, text in (("PIP_INDEX_URL", "http://127.0.0.1:1/simple"), ("PIP_RETRIES", "0"), ("PIP_NO_CACHE_DIR", "1")):
        monkeypatch.setenv(name, text)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for _ in range(2):  # an interpreter is there after the first, and does not pass for an environment
        with pytest.raises(DeployError, match=r"could not be made[\s\S]*setup-serving"):
            make_serving_env()
        assert (tmp_path / "env" / "bin" / "python").exists()
