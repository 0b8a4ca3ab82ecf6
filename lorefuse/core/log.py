"""How a step speaks to the run that started it (a line that `pipelines/run.py` reads), and what log lines look like."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO, TypeVar, cast

from lorefuse.core.errors import ConfigError, LorefuseError
from lorefuse.core.step_cache import StepResult
from lorefuse.core.terminal import plain

PREFIX = "[lorefuse] "
LEVEL_VARIABLE, FORMAT_VARIABLE = "LOREFUSE_LOG", "LOREFUSE_LOG_FORMAT"
_running: ContextVar[str] = ContextVar("running", default="training")
F = TypeVar("F", bound=Callable[..., Any])


class _JsonFormatter(logging.Formatter):
    """One object a line, as collectors of logs read them."""

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": _utc(record),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    """Time, level, message: one line, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{_utc(record)} {record.levelname} {plain(record.getMessage())}{trace}"


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def log_to_stderr(default_level: str = "WARNING") -> None:
    """Write log lines with their time to standard error.

    `LOREFUSE_LOG` names the level; with `LOREFUSE_LOG_FORMAT=json` each line is an object with time (ISO 8601, UTC),
    level, logger, thread and message.

    Raises:
        ConfigError: One of both is none of what it may be.
    """
    level = os.environ.get(LEVEL_VARIABLE, default_level).upper()
    style = os.environ.get(FORMAT_VARIABLE, "text").lower()
    levels, styles = logging.getLevelNamesMapping(), {"text": _TextFormatter, "json": _JsonFormatter}
    for variable, given, known in ((LEVEL_VARIABLE, level, levels), (FORMAT_VARIABLE, style, styles)):
        if given not in known:
            raise ConfigError(f"{variable} cannot be used.", expected=", ".join(known).lower(), got=given.lower())
    handler = logging.StreamHandler()
    handler.setFormatter(styles[style]())
    logging.basicConfig(level=level, handlers=[handler])


def say(event: str, **facts: Any) -> None:
    """Print one event as a line of JSON behind `PREFIX`."""
    print(PREFIX + json.dumps({"event": event, **facts}, default=str), flush=True)


def parse(line: str) -> dict[str, Any] | None:
    """Return the event a line holds, or None for any other line (kfp indents what a step prints)."""
    _, found, text = line.partition(PREFIX)
    if not found:
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


@contextlib.contextmanager
def running(step: str) -> Iterator[None]:
    """Name the step that is at work inside, for whoever has to say that it failed."""
    before = _running.set(step)
    try:
        yield
    finally:
        _running.reset(before)


def running_step() -> str:
    """Return the step that this process is at work on; ``training`` where none has been named."""
    return _running.get()


def reported(step: F) -> F:
    """Decorate a step: its result, or its error with the exit code, becomes an event.

    A `LorefuseError` ends the process with its exit code, without a traceback: the message says it all.
    """

    @functools.wraps(step)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with running(step.__name__):
                result = step(*args, **kwargs)
        except LorefuseError as error:
            say("error", step=step.__name__, message=str(error), exit_code=error.exit_code)
            sys.exit(error.exit_code)
        if isinstance(result, StepResult):
            say(
                "step",
                step=result.step,
                reused=result.reused,
                elapsed_s=round(result.elapsed_s, 2),
                summary=result.summary,
            )
        return result

    return cast(F, wrapper)


def step_line(event: dict[str, Any]) -> str:
    """Return a step's event as one line for people: name, built or reused, seconds, facts."""
    word = "reused" if event["reused"] else "built"
    facts = []
    for name, value in event["summary"].items():
        if not isinstance(value, dict):
            is_count = isinstance(value, int) and not isinstance(value, bool)
            facts.append(f"{name} {value:,}" if is_count else f"{name} {value}")
    return plain(f"  {event['step']:<13} {word:<6} {event['elapsed_s']:6.1f} s  {', '.join(facts)[:150]}")


@contextlib.contextmanager
def short_log() -> Iterator[None]:
    """Show what steps print as one line each, and an error as its message; leave out what libraries print."""
    terminal, lines = sys.stdout, _Lines()
    lines.terminal = terminal
    with contextlib.redirect_stdout(lines), warnings.catch_warnings():
        # A library that sets filters of its own when it is imported would undo a filter set here.
        warnings.showwarning = lambda *_, **__: None
        yield


class _Lines(io.TextIOBase):
    """Takes text as it comes, and looks at whole lines."""

    terminal: TextIO = sys.stdout
    pending = ""

    def write(self, text: str) -> int:
        *lines, self.pending = (self.pending + text).split("\n")
        for line in lines:
            event = parse(line)
            if event is None:
                continue
            if event["event"] == "error":
                print(plain(event["message"]), file=sys.stderr, flush=True)
            else:
                print(step_line(event), file=self.terminal, flush=True)
        return len(text)
