"""Interest states that are made when they are asked for: an arm's knowledge may be thousands wide, and rows are many.

The training set of a run holds its interest in a file, mapped. An arm has other vectors, and writing its states down
for every row would take rows × width: 7 GB for 300,000 interactions and 3,000 categories. What models need of all rows
are dot products with items, a few numbers a row (`models.pairs`), and these are sums of products of items; whole states
are wanted of some users at a time, and are then summed anew over their pasts.

Suffixes: ``S`` states, ``B`` of them asked for, ``V`` width of all facets, ``E`` of one space, ``X`` columns at
the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.features.aggregates import USER_SHRINKAGE, interest_features, shrunk_mean, unit_rows
from lorefuse.features.rows import Interactions
from lorefuse.training_set.lazy_states import LazyStates

VALUES_AT_A_TIME, COLUMNS_AT_A_TIME = 1 << 22, 256
"""Sums that are made at once for some states, and columns of the vectors that are widened to float64 for them."""
ROWS_AT_A_TIME = 64
"""Past rows that candidates meet at once. Users share such a block, and a candidate meets the others' past in vain."""


@dataclass(frozen=True)
class InterestStates(LazyStates):
    """`Tensor.USER_INTEREST` of all states, made of the history.

    Attributes:
        history: The S interactions.
        vectors: Vectors of the items, (N, E) each, zeros where an item has none; those without columns are left out.
        shrinkage: κ of `aggregates.interest_features`.
        more: Columns that stand at the end, float32 (S, X).
        kept: What has been made of all states, by name; for the callers' use.
    """

    history: Interactions
    vectors: tuple[NDArray[np.float32], ...]
    shrinkage: float
    more: NDArray[np.float32]
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        history: Interactions,
        vectors: Sequence[NDArray[np.float32]],
        shrinkage: float,
        more: NDArray[np.float32],
    ) -> InterestStates:
        """Describe the states; arguments as the attributes."""
        return cls(history, tuple(v for v in vectors if v.shape[1]), shrinkage, more)

    @property
    def shape(self) -> tuple[int, int]:
        """(S, V)."""
        return len(self.more), 2 * sum(v.shape[1] for v in self.vectors) + self.more.shape[1]

    def __len__(self) -> int:
        """Return S."""
        return len(self.more)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all states, which is what this class is there to avoid: for small sets and for tests."""
        return np.asarray(self[np.arange(len(self))], dtype=dtype)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Return states, float32 (B, V), given their positions or a slice; with a second index, columns of them."""
        asked, columns = key if isinstance(key, tuple) else (key, slice(None))
        states = np.arange(len(self))[asked]
        result = np.empty((len(states), self.shape[1]), dtype=np.float32)
        start = 0
        for vectors in self.vectors:
            end = start + 2 * vectors.shape[1]
            step = max(1, VALUES_AT_A_TIME // (3 * vectors.shape[1] + 3))
            for first in range(0, len(states), step):
                result[first : first + step, start:end] = self._made(vectors, states[first : first + step])
            start = end
        result[:, start:] = self.more[states]
        return result[:, columns]

    def products(self, number: int, state_R: NDArray[np.integer], item_R: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the dot products of states with items' unit vectors, both facets of one space: float32 (R, 2).

        No state is made for them: an item meets each past item, and their products are summed. To 1e-5 the numbers are
        those of the states, which are sums in another order.

        Args:
            number: Of the space, as in `vectors`.
            state_R: The rows' states.
            item_R: The rows' items.
        """
        vectors, place = self.vectors[number], self._place()
        order = np.argsort(place[state_R], kind="stable")
        at = place[state_R[order]]
        sums = np.zeros((len(order), 3))
        for block in self._blocks():
            self._add(vectors, block, at, item_R[order], sums)
        result = np.empty((len(order), 2), dtype=np.float32)
        result[order] = self._facets(sums, self._liked_lengths(vectors)[at], at)
        return result

    def _add(
        self,
        vectors: NDArray[np.float32],
        block: tuple[int, int, int],
        at: NDArray[np.int32],
        items: NDArray[np.integer],
        sums: NDArray[np.float64],
    ) -> None:
        """Add to rows' sums, by one, value and like, their items' products with the past items of a block."""
        history, causal, (first, end, last) = self.history, self.history.user_order, block
        rows = causal.order[first:end]
        counting = np.flatnonzero(history.is_train[rows])
        past, rows = first + counting, rows[counting]
        weights = np.stack([np.ones(len(rows)), history.value[rows], history.liked[rows]], axis=1)
        unit = unit_rows(vectors[history.item_row[rows]])
        step = max(1, VALUES_AT_A_TIME // max(vectors.shape[1], len(past)))
        start, stop = np.searchsorted(at, [first, last])
        for low in range(int(start), int(stop), step) if len(past) else ():
            mine = slice(low, min(low + step, int(stop)))
            known = past >= causal.group_start[at[mine]][:, None]
            known &= past < causal.block_start[at[mine]][:, None]
            sums[mine] += (unit_rows(vectors[items[mine]]) @ unit.T * known) @ weights

    def _facets(
        self, sums: NDArray[np.float64], length: NDArray[np.float64], at: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """Turn sums of products, (R, 3), into those of both facets, (R, 2); as `aggregates.interest_features`."""
        history, causal = self.history, self.history.user_order
        counts = history.is_train[causal.order]
        running = [np.concatenate([[0.0], np.cumsum(values[causal.order] * counts, dtype=np.float64)])
                   for values in (np.ones(len(counts)), history.value, history.liked)]  # fmt: skip
        count, value, liked = (of[causal.block_start[at]] - of[causal.group_start[at]] for of in running)
        unit = np.divide(sums[:, 2], length, out=np.zeros(len(at)), where=length > 1e-9)
        mean = shrunk_mean(value, count, history.overall_value, USER_SHRINKAGE)
        centred = (sums[:, 1] - mean * sums[:, 0]) / np.maximum(count + self.shrinkage, 1e-12)
        return np.stack([unit * liked / np.maximum(liked + self.shrinkage, 1e-12), centred], axis=1)

    def _liked_lengths(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the length of the sum of liked items' unit vectors as of each place of the causal order, (S,)."""
        history, causal = self.history, self.history.user_order
        lengths, carried = np.zeros(len(causal.order)), np.zeros(vectors.shape[1])
        for first, end, _ in self._blocks():
            rows = causal.order[first:end]
            running = np.zeros((len(rows) + 1, vectors.shape[1]))
            liked = (history.liked & history.is_train)[rows][:, None]
            np.cumsum(unit_rows(vectors[history.item_row[rows]]) * liked, axis=0, out=running[1:])
            begin = causal.group_start[first:end]
            before = running[:-1] - running[np.maximum(begin, first) - first]
            before[begin < first] += carried  # a user whose past is longer than a block
            lengths[first:end] = np.linalg.norm(before, axis=1)
            since = max(int(causal.group_start[end - 1]), first) - first
            carried = running[-1] - running[since] + (carried if causal.group_start[end - 1] < first else 0.0)
        at_start: NDArray[np.float64] = lengths[causal.block_start]
        return at_start

    def _blocks(self) -> Iterator[tuple[int, int, int]]:
        """Yield ranges of causal places, whole users or a part of a long one, and where the last user's places end."""
        starts = self.history.user_order.group_start
        ends = np.concatenate([np.unique(starts), [len(starts)]])
        first = 0
        while first < len(starts):
            fits = int(ends[np.searchsorted(ends, first + ROWS_AT_A_TIME, side="right") - 1])
            end = fits if fits > first else min(first + ROWS_AT_A_TIME, len(starts))
            yield first, end, int(ends[np.searchsorted(ends, end, side="left")])
            first = end

    def _place(self) -> NDArray[np.int32]:
        """Return each state's place in order of users and time, (S,)."""
        place: NDArray[np.int32] | None = self.kept.get("place")
        if place is None:
            order = self.history.user_order.order
            place = np.empty(len(order), dtype=np.int32)
            place[order] = np.arange(len(place), dtype=np.int32)
            self.kept["place"] = place
        return place

    def _made(self, vectors: NDArray[np.float32], states: NDArray[np.int64]) -> NDArray[np.float32]:
        """Sum some states' pasts, (B, 2E): the numbers of `rows.user_interest_rows`, but for the order of sums."""
        (items, *past_BM), dim = self._past(states), vectors.shape[1]
        sums, unit = np.empty((len(states), 3 * dim + 3)), unit_rows(vectors[items])
        for first in range(0, dim, COLUMNS_AT_A_TIME):
            block = unit[:, first : first + COLUMNS_AT_A_TIME].astype(np.float64)
            for weight, matrix in enumerate(past_BM):
                sums[:, weight * dim + first : weight * dim + first + block.shape[1]] = matrix @ block
        sums[:, 3 * dim :] = np.stack([matrix.sum(axis=1) for matrix in past_BM], axis=1)
        return np.concatenate(interest_features(sums, self.history.overall_value, self.shrinkage), axis=1)

    def _past(self, states: NDArray[np.int64]) -> tuple[NDArray[np.int32], csr_array, csr_array, csr_array]:
        """Return the M items of states' pasts, and their weights by one, by value and by like there, (B, M) each."""
        history, causal, place = self.history, self.history.user_order, self._place()
        first, end = causal.group_start[place[states]], causal.block_start[place[states]]
        indptr = np.concatenate([[0], np.cumsum(end - first, dtype=np.int64)])
        rows = causal.order[np.arange(indptr[-1]) + np.repeat(first - indptr[:-1], end - first)]
        counts, (items, column) = history.is_train[rows], np.unique(history.item_row[rows], return_inverse=True)
        weights = (counts, history.value[rows] * counts, history.liked[rows] & counts)
        shape = (len(states), len(items))
        one, value, liked = (csr_array((w.astype(np.float64), column, indptr), shape=shape) for w in weights)
        return items, one, value, liked
