"""Sums over the past: what was known about a user or an item strictly before a moment.

Suffixes: ``R`` rows, ``V`` values summed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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

    def sums(self, values_RV: NDArray[np.floating]) -> CausalSums:
        """Prepare running sums of values (R, V); give rows that must not count (validation, test) zeros."""
        running = np.zeros((len(self.order) + 1, values_RV.shape[1]), dtype=np.float64)
        for column in range(values_RV.shape[1]):  # one at a time: a copy of all of them in order may not fit
            running[1:, column] = np.cumsum(values_RV[:, column][self.order], dtype=np.float64)
        return CausalSums(self, running)


@dataclass(frozen=True)
class CausalSums:
    """Running sums along a `CausalOrder`; `before` and `after` read the same numbers, so they agree exactly."""

    causal: CausalOrder
    running: NDArray[np.float64]

    def before(self) -> NDArray[np.float64]:
        """Return, for each row in its original place, the sum over its entity's rows strictly earlier: (R, V)."""
        result = np.empty((len(self.causal.order), self.running.shape[1]))
        for column in range(self.running.shape[1]):
            running = self.running[:, column]
            result[self.causal.order, column] = running[self.causal.block_start] - running[self.causal.group_start]
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

    def snapshot_rows(self, counts: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return one row per (entity, time) that holds a counting row: where a snapshot of the state belongs."""
        ordered = counts[self.causal.order]
        places = np.flatnonzero(ordered)
        _, first = np.unique(self.causal.block_start[places], return_index=True)
        rows: NDArray[np.int64] = self.causal.order[places[first]].astype(np.int64)
        return rows
