"""Log lines: their time, their form, and what a terminal must not act on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

CODE = (
    "import logging, threading\n"
    "from lorefuse.core.log import log_to_stderr\n"
    "log_to_stderr('INFO')\n"
    "logging.getLogger('lorefuse.deploy').info('version %s\\x1b[31m is live: „é“', 7)\n"
    "try: 1 / 0\n"
    "except ZeroDivisionError: logging.getLogger('lorefuse').exception('no')\n"
    "logging.getLogger('lorefuse').debug('not this')\n"
)


def lines(**environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOREFUSE_LOG")}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**kept, **environment}, capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


def _is_now(text: str) -> bool:
    moment = datetime.fromisoformat(text)
    return moment.tzinfo == UTC and abs((datetime.now(UTC) - moment).total_seconds()) < 600


def test_text_lines_begin_with_their_time() -> None:
    first, second, *trace = lines()
    time_text, _, rest = first.partition(" ")
    assert _is_now(time_text)
    assert rest == "INFO version 7 is live: „é“"
    assert second.endswith("ERROR no")
    assert trace[-1] == "ZeroDivisionError: division by zero"


def test_json_lines_are_objects() -> None:
    first, second = (json.loads(line) for line in lines(LOREFUSE_LOG_FORMAT="json"))
    assert _is_now(first.pop("time"))
    message = "version 7\x1b[31m is live: „é“"
    assert first == {"level": "INFO", "logger": "lorefuse.deploy", "thread": "MainThread", "message": message}
    assert "ZeroDivisionError" in second["exception"]
    assert "\n" in second["exception"]


@pytest.mark.parametrize(("name", "value"), [("LOREFUSE_LOG", "loud"), ("LOREFUSE_LOG_FORMAT", "xml")])
def test_what_cannot_be_used_is_said(name: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lorefuse", "status"],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"{name} cannot be used.\n  expected: ")
    assert "Traceback" not in done.stderr
