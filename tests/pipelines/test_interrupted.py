"""Ctrl-C in the middle of a run: one line, nothing left running, nothing half-written, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.helpers.shop import PROJECT_PATH, environment, write_shop
from tests.reliability.conftest import eventually

pytestmark = pytest.mark.slow


def test_ctrl_c_ends_a_run_in_one_line(tmp_path: Path) -> None:
    config_path, home_path, said_path = write_shop(tmp_path / "data"), tmp_path / "home", tmp_path / "said"
    for words in ("Running shop", "\n  training_set "):  # while libraries are imported; between two steps or in one
        with said_path.open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "lorefuse", "run", "--config", str(config_path), "--no-deploy"],
                env=environment(home_path),
                cwd=PROJECT_PATH,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert eventually(partial(_holds, said_path, words), 300)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        assert process.wait(60) == 130
        assert eventually(partial(_has_ended, process.pid), 60), _alive(process.pid)
        text = said_path.read_text("utf-8")
        assert text.endswith("\nStopped. Finished steps are kept: run again to go on.\n")
        assert "Traceback" not in text
    assert not [path for path in home_path.glob("cache/steps/*/*") if not (path / ".step.json").exists()]


def _holds(path: Path, words: str) -> bool:
    return words in path.read_text("utf-8")


def _has_ended(group: int) -> bool:
    return not _alive(group)


def _alive(group: int) -> list[int]:
    """Return what still runs of a process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return found
