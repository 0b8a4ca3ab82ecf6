"""Random draws of a training step that do not depend on how many processes share its batch.

Each process draws for the whole batch and keeps the part of its own rows. Drawing is a small part of a step, and so
several processes train the very model that one would.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The rows of a batch that this process computes.

    Attributes:
        first: Position of its first row.
        num_own: Its rows.
        num_rows: Rows of the whole batch.
    """

    first: int
    num_own: int
    num_rows: int


_share: list[Share] = []


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let random draws inside be those of the whole batch; one share at a time."""
    _share.append(share)
    try:
        yield
    finally:
        _share.pop()


def whole_batch(num_rows: int) -> tuple[int, slice]:
    """Return how many rows to draw for, and which of them this process keeps.

    Args:
        num_rows: Rows at hand, the same number for each row of the batch (candidates of a ranking loss, say).

    Example:
        >>> whole_batch(4)
        (4, slice(None, None, None))
        >>> with sharing(Share(first=2, num_own=2, num_rows=5)):
        ...     whole_batch(4)
        (10, slice(4, 8, None))
    """
    if not _share:
        return num_rows, slice(None)
    share = _share[-1]
    each = num_rows // share.num_own
    return share.num_rows * each, slice(share.first * each, (share.first + share.num_own) * each)
