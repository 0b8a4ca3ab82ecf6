"""Interest states that are made when they are asked for: an arm's knowledge may be thousands wide, and rows are many.

The training set of a run holds its interest in a file, mapped. An arm has other vectors, and writing its states down
for every row would take rows × width: 7 GB for 300,000 interactions and 3,000 categories. What models need of all rows
are dot products with items, a few numbers a row (`models.pairs`), for which the states stream by in parts; whole states
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

from lorefuse.features import aggregates as a
from lorefuse.features.rows import History

PART_OF = 4
"""Parts of a stream are so many times smaller than those of other streams: several copies of one are alive at once."""
VALUES_AT_A_TIME, COLUMNS_AT_A_TIME = 1 << 22, 256
"""Sums that are made at once for some states, and columns of the vectors that are widened to float64 for them."""


@dataclass(frozen=True)
class InterestStates:
    """`Tensor.USER_INTEREST` of all states, (S, V), as an array that holds no state: index it by rows.

    Attributes:
        history: The S interactions.
        vectors: Vectors of the items, (N, E) each, zeros where an item has none; those without columns are left out.
        shrinkage: κ of `aggregates.interest_features`.
        more: Columns that stand at the end, float32 (S, X).
        kept: What has been made of all states, by name; for the callers' use.
    """

    history: History
    vectors: tuple[NDArray[np.float32], ...]
    shrinkage: float
    more: NDArray[np.float32]
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls, history: History, vectors: Sequence[NDArray[np.float32]], shrinkage: float, more: NDArray[np.float32]
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

    def parts(self, number: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Yield states of whole users, (n,), and both facets of one space of vectors as of each, (n, 2E)."""
        vectors = self.vectors[number]
        for part in self.history.interest_parts(vectors, PART_OF * vectors.shape[1]):
            sides = a.interest_features(part.sums.before(), self.history.overall_value, self.shrinkage)
            yield part.rows, np.concatenate(sides, axis=1)

    def _made(self, vectors: NDArray[np.float32], states: NDArray[np.int64]) -> NDArray[np.float32]:
        """Sum some states' pasts anew, (B, 2E): the numbers of the stream, but for the order of sums."""
        past_BN, dim = self._past(states, len(vectors)), vectors.shape[1]
        sums = np.empty((len(states), 3 * dim + 3))
        length = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
        for weight, matrix in enumerate(past_BN):
            for first in range(0, dim, COLUMNS_AT_A_TIME):
                block = vectors[:, first : first + COLUMNS_AT_A_TIME]
                unit = (block / length[:, None]).astype(np.float64)
                sums[:, weight * dim + first : weight * dim + first + block.shape[1]] = matrix @ unit
            sums[:, 3 * dim + weight] = matrix.sum(axis=1)
        return np.concatenate(a.interest_features(sums, self.history.overall_value, self.shrinkage), axis=1)

    def _past(self, states: NDArray[np.int64], num_items: int) -> tuple[csr_array, csr_array, csr_array]:
        """Return the items of states' pasts, (B, N), weighted by one, by value and by like: train rows before each."""
        history, causal = self.history, self.history.user_order
        place = self.kept.get("place")
        if place is None:
            place = np.empty(len(causal.order), dtype=np.int32)
            place[causal.order] = np.arange(len(place), dtype=np.int32)
            self.kept["place"] = place
        first, end = causal.group_start[place[states]], causal.block_start[place[states]]
        indptr = np.concatenate([[0], np.cumsum(end - first, dtype=np.int64)])
        rows = causal.order[np.arange(indptr[-1]) + np.repeat(first - indptr[:-1], end - first)]
        counts, items = history.is_train[rows], history.item_row[rows]
        weights = (counts, history.value[rows] * counts, history.liked[rows] & counts)
        shape = (len(states), num_items)
        one, value, liked = (csr_array((w.astype(np.float64), items, indptr), shape=shape) for w in weights)
        return one, value, liked


Interest = NDArray[np.float32] | InterestStates
"""States that lie in a file, or that are made when they are asked for."""
