"""What commands show of the steps they run."""

from __future__ import annotations

import warnings

import pytest

from lorefuse.core.errors import DataError
from lorefuse.core.log import reported, say, short_log, step_line

EVENT = {"event": "step", "step": "ingest", "reused": False, "elapsed_s": 1.25, "summary": {"rows": 1200, "more": {}}}


def test_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert step_line(EVENT) == "  ingest        built     1.2 s  rows 1,200"
    with short_log():
        print("a library says something")
        say(**EVENT)  # type: ignore[arg-type]
        warnings.warn("and warns", DeprecationWarning, stacklevel=1)
    said = capsys.readouterr()
    assert said.out == "  ingest        built     1.2 s  rows 1,200\n"
    assert said.err == ""


def test_an_error_is_its_message_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    @reported
    def broken() -> None:
        raise DataError("There is no file.", fix="bring one")

    with short_log(), pytest.raises(SystemExit) as exit_info:
        broken()
    assert exit_info.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "There is no file." in said.err
    assert "bring one" in said.err
