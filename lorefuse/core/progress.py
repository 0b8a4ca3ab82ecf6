"""Progress of long work: a bar on the terminal, also from inside a pipeline's step; elsewhere one log line."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TextIO, TypeVar

T = TypeVar("T")
TERMINAL_VARIABLE = "LOREFUSE_TERMINAL"
"""A pipeline's step writes to a pipe; `pipelines/run.py` names its terminal here so that bars still show."""
_log = logging.getLogger(__name__)


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield the items of `iterable` and show how far it is.

    Args:
        iterable: What to go through.
        description: Shown left of the bar, e.g. ``Encoding texts``.
        total: Number of items, where `iterable` does not know it.

    Yields:
        The items, unchanged.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    terminal = _terminal()
    if terminal is not None:
        from rich.console import Console
        from rich.progress import track as rich_track

        console = Console(file=terminal, force_terminal=True)
        yield from rich_track(iterable, description, total=total, console=console, transient=True)
        return
    start_s, num_items = time.perf_counter(), 0
    for item in iterable:
        yield item
        num_items += 1
    elapsed_s = time.perf_counter() - start_s
    if elapsed_s > 2:
        _log.info("%s: %d done in %.1f s", description, num_items, elapsed_s)


def _terminal() -> TextIO | None:
    if sys.stderr.isatty():
        return sys.stderr
    name = os.environ.get(TERMINAL_VARIABLE)
    if not name:
        return None
    try:
        return open(name, "w", encoding="utf-8")
    except OSError:
        return None
