"""The most liked items, for everyone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.errors import UsageError
from lorefuse.retrieval.recommender import Recommender, Rows, Side


class Popularity(Recommender):
    """Score an item by its likes in train, of which old ones may count less.

    An item's score is Σ 0.5^((T − t) / half_life) over its likes, with t the time of the like and T that of the last.

    Args:
        half_life: In the unit of `Side.time`; None: all likes count the same.
    """

    def __init__(self, half_life: float | None = None) -> None:
        self.half_life = half_life

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        weight = np.ones(train_UN.nnz)
        if self.half_life is not None:
            if side.time is None:
                raise UsageError(
                    "Popularity with a half-life needs the likes' times.",
                    expected="Side.time",
                    got="none",
                    fix="set popularity_half_life: null",
                )
            weight = 0.5 ** ((side.time.max() - side.time) / self.half_life)
        self.popularity_N = np.bincount(train_UN.indices, weight, minlength=train_UN.shape[1])

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        return np.tile(self.popularity_N.astype(np.float32), (len(user_rows), 1))
