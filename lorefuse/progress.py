"""Progress of long work: a bar on a terminal, one log line at the end elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
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
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(iterable, description, total=total, console=Console(stderr=True), transient=True)
        return
    start_s, num_items = time.perf_counter(), 0
    for num_items, item in enumerate(iterable, start=1):  # noqa: B007  (the count outlives the loop)
        yield item
    elapsed_s = time.perf_counter() - start_s
    if elapsed_s > 2:
        _log.info("%s: %d done in %.1f s", description, num_items, elapsed_s)
