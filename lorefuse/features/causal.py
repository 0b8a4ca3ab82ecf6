"""Sums over the past: what was known about a user or an item strictly before a moment.

Suffixes: ``R`` rows, ``V`` values summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PART_ROWS, PART_VALUES = 1 << 20, 1 << 24
"""Most rows, and most values (rows · V), of a part of a stream; an entity's rows always stand together."""
ROWS_PER_BLOCK = 2048
"""Rows whose sums are taken at once: few enough for the cache."""


@dataclass(frozen=True)
class CausalOrder:
    """Rows in order of (entity, time), with the blocks of equal time marked; made once, used for every sum.

    Attributes:
        order: int32 (R,) row positions sorted by entity, then time.
        block_start: int32 (R,) for each sorted place, the place where its (entity, time) block starts.
        block_end: int32 (R,) one past the place where that block ends.
        group_start: int32 (R,) the place where its entity starts.
    """

    order: NDArray[np.int32]
    block_start: NDArray[np.int32]
    block_end: NDArray[np.int32]
    group_start: NDArray[np.int32]

    @classmethod
    def of(cls, entity: NDArray[np.integer], timestamp_us: NDArray[np.int64]) -> CausalOrder:
        """Sort rows by entity (R,) and time (R,)."""
        order = np.lexsort((timestamp_us, entity)).astype(np.int32)  # half the memory; there are no 2³¹ rows
        entity, timestamp_us = entity[order], timestamp_us[order]
        places = np.arange(len(order), dtype=np.int32)
        new_group = np.r_[True, entity[1:] != entity[:-1]][: len(order)]
        new_block = new_group | np.r_[True, timestamp_us[1:] != timestamp_us[:-1]][: len(order)]
        starts = np.flatnonzero(new_block).astype(np.int32)
        number = np.cumsum(new_block, dtype=np.int32) - 1
        ends = np.r_[starts[1:], np.int32(len(order))]
        group_start = np.maximum.accumulate(np.where(new_group, places, 0))
        return cls(order, starts[number], ends[number], group_start)

    def sums(self, values_RV: NDArray[np.floating], carried_V: NDArray[np.float64] | float = 0.0) -> CausalSums:
        """Prepare running sums of values (R, V); give rows that must not count (validation, test) zeros."""
        running = np.empty((len(self.order) + 1, values_RV.shape[1]), dtype=np.float64)
        running[0], running[1:] = carried_V, values_RV[self.order]
        return CausalSums(self, np.cumsum(running, axis=0, out=running))

    def stream(
        self, values: Callable[[NDArray[np.int32]], NDArray[np.floating]], width: int = 1
    ) -> Iterator[CausalPart]:
        """Yield the running sums of whole entities, one part after the other: all of them may not fit into memory.

        A part starts with what the one before ended with, so its sums are those over all rows, to the bit.

        Args:
            values: Returns the values of some rows (n, V), given their positions.
            width: Decides with `PART_VALUES` how many rows a part has; streams of one width have the same parts.
        """
        carried: NDArray[np.float64] | float = 0.0
        num_rows, start = max(1, min(PART_ROWS, PART_VALUES // max(width, 1))), 0
        while start < len(self.order):
            last = self.group_start[min(start + num_rows, len(self.order)) - 1]
            end = int(np.searchsorted(self.group_start, last, side="right"))
            inside, rows = slice(start, end), self.order[start:end]
            blocks = (
                self.block_start[inside] - start,
                self.block_end[inside] - start,
                self.group_start[inside] - start,
            )
            sums = CausalOrder(np.arange(end - start, dtype=np.int32), *blocks).sums(values(rows), carried)
            yield CausalPart(rows, sums)
            carried, start = sums.running[-1], end

    def snapshot_rows(self, counts: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return one row per (entity, time) that holds a counting row: where a snapshot of the state belongs."""
        places = np.flatnonzero(counts[self.order])
        block = self.block_start[places]
        rows: NDArray[np.int64] = self.order[places[np.r_[True, block[1:] != block[:-1]][: len(block)]]].astype(
            np.int64
        )
        return rows


@dataclass(frozen=True)
class CausalSums:
    """Running sums along a `CausalOrder`; `before` and `after` read the same numbers, so they agree exactly."""

    causal: CausalOrder
    running: NDArray[np.float64]

    def before(self) -> NDArray[np.float64]:
        """Return, for each row in its original place, the sum over its entity's rows strictly earlier: (R, V)."""
        result = np.empty((len(self.causal.order), self.running.shape[1]))
        for start in range(0, len(result), ROWS_PER_BLOCK):
            some = slice(start, start + ROWS_PER_BLOCK)
            earlier, first = self.running[self.causal.block_start[some]], self.running[self.causal.group_start[some]]
            result[self.causal.order[some]] = earlier - first
        return result

    def after(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum up to and including the moment of some rows (positions in the original order)."""
        place_of = np.empty(len(self.causal.order), dtype=np.int32)
        place_of[self.causal.order] = np.arange(len(place_of), dtype=np.int32)
        places = place_of[rows]
        result: NDArray[np.float64] = (
            self.running[self.causal.block_end[places]] - self.running[self.causal.group_start[places]]
        )
        return result


@dataclass(frozen=True)
class CausalPart:
    """Some entities of a stream.

    Attributes:
        rows: int32 (n,) positions of their rows, by entity and time.
        sums: Over these rows, in this order.
    """

    rows: NDArray[np.int32]
    sums: CausalSums

    def snapshots(self, counts: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return the rows at which snapshots belong (see `CausalOrder.snapshot_rows`) and the sums after each."""
        places = self.sums.causal.snapshot_rows(counts[self.rows])
        return self.rows[places], self.sums.after(places)
