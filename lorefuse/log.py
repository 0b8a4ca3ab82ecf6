"""How a step speaks to the run that started it: one line on standard output, read back by `pipelines/run.py`."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

from lorefuse.errors import LorefuseError
from lorefuse.workspace import StepResult

PREFIX = "[lorefuse] "
F = TypeVar("F", bound=Callable[..., Any])


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


def reported(step: F) -> F:
    """Decorate a step: its result, or its error with the exit code, becomes an event.

    A `LorefuseError` ends the process with its exit code, without a traceback: the message says it all.
    """

    @functools.wraps(step)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
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
