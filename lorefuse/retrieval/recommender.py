"""What every recommender of this room offers: fit on likes, then score the whole catalogue for any users.

Suffixes: ``U`` users, ``N`` items, ``B`` users of a batch, ``K`` items returned, ``E`` width of vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.errors import UsageError
from lorefuse.core.progress import track
from lorefuse.core.schema import TEXT
from lorefuse.retrieval.metrics import NOTHING

Scores = NDArray[np.float32]
Rows = NDArray[np.integer]
USERS_PER_BATCH, SCORES_PER_BATCH = 512, 51_200_000
"""Users scored at a time: 512 × 100,000 items in float32 are 0.2 GB; of larger catalogues fewer users."""


@dataclass(frozen=True)
class Side:
    """What is known besides who liked what; each recommender reads what it can use.

    Attributes:
        time: float64 (nnz,) time of each stored entry of the train matrix, in any unit that grows with time.
        knowledge: Vectors of the items by block, float32 (N, E) each; zeros where an item has none.
        user_fields: int64 (U, Fu) vocabulary indices, the id first; 0 is unseen.
        item_fields: int64 (N, Fi) vocabulary indices, the id first; 0 is unseen.
    """

    time: NDArray[np.float64] | None = None
    knowledge: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    user_fields: NDArray[np.int64] | None = None
    item_fields: NDArray[np.int64] | None = None

    @property
    def text(self) -> NDArray[np.float32] | None:
        """Text vectors; None where there are none."""
        return self.knowledge.get(TEXT)

    def with_text(self, text: NDArray[np.float32] | None) -> Self:
        """Return the same with other texts, or with none."""
        others = {name: vectors for name, vectors in self.knowledge.items() if name != TEXT}
        return replace(self, knowledge=others if text is None else {TEXT: text, **others})


class Recommender(ABC):
    """Base class. A subclass implements `_fit` and `_scores`."""

    _train: csr_array | None = None

    def fit(
        self, train_UN: csr_array, side: Side | None = None, validate: Callable[[Self], float] | None = None
    ) -> Self:
        """Learn from who liked what in train.

        Args:
            train_UN: Stored entries are likes, float32, values 1.
            side: What else is known.
            validate: Judges the recommender as it is now, higher is better; read after each epoch by recommenders
                that train in epochs, which then keep their best one. Others ignore it.

        Returns:
            Itself.

        Raises:
            UsageError: Nothing to learn from, or a part of `side` that this recommender needs is missing.
            DivergedError: A training whose loss is no longer finite.
        """
        if not train_UN.nnz:
            raise UsageError("There is nothing to fit a recommender on.", expected="likes in train", got="none")
        self._train = train_UN
        self._fit(train_UN, side or Side(), validate)
        return self

    def scores(self, user_rows: Rows, history_UN: csr_array | None = None) -> Scores:
        """Score every item of the catalogue; items already seen too, the caller masks them.

        Args:
            user_rows: Users, (B,).
            history_UN: What each of all users has liked by now; values are weights (an older like may count less).
                Default: the train matrix. What was learnt does not change.

        Returns:
            Higher is better, (B, N); comparable within a user only.

        Raises:
            UsageError: The recommender has not been fitted.
        """
        if self._train is None:
            raise UsageError(f"{type(self).__name__} has not been fitted.", fix="call fit first")
        history_UN = self._train if history_UN is None else history_UN
        return np.asarray(self._scores(np.asarray(user_rows), history_UN), dtype=np.float32)

    @abstractmethod
    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None: ...

    @abstractmethod
    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]: ...


def recommend(
    recommender: Recommender,
    user_rows: Rows,
    k: int,
    *,
    seen_UN: csr_array | None = None,
    history_UN: csr_array | None = None,
    description: str | None = None,
) -> NDArray[np.int64]:
    """Return the best item rows for some users, (B, K), seen ones left out.

    Args:
        recommender: Fitted.
        user_rows: Users, (B,).
        k: Items per user; ranks without a candidate left hold `NOTHING`.
        seen_UN: Stored entries are never returned, for all users.
        history_UN: As for `Recommender.scores`.
        description: Left of the progress bar; default: no bar.

    Of equal scores the smaller item row comes first.
    """
    size = USERS_PER_BATCH
    if recommender._train is not None:
        size = max(1, min(size, SCORES_PER_BATCH // recommender._train.shape[1]))
    batches = [user_rows[start : start + size] for start in range(0, len(user_rows), size)]
    ranked = []
    for batch in track(batches, description) if description else batches:
        scores_BN = recommender.scores(batch, history_UN)
        if seen_UN is not None:
            seen_BN = seen_UN[batch]
            scores_BN[np.repeat(np.arange(len(batch)), np.diff(seen_BN.indptr)), seen_BN.indices] = -np.inf
        ranked.append(top_k(scores_BN, k))
    return np.concatenate(ranked) if ranked else np.zeros((0, k), dtype=np.int64)


def top_k(scores_BN: Scores, k: int) -> NDArray[np.int64]:
    """Return the k best columns of each row, best first; −inf is no candidate; of equal scores the first wins."""
    num_items = scores_BN.shape[1]
    width = min(k, num_items)
    # The k-th best score as a floor: everything above it is in, ties on it are filled up from the left.
    floor_B1 = np.partition(scores_BN, num_items - width, axis=1)[:, num_items - width, None]
    above = scores_BN > floor_B1
    tied = scores_BN == floor_B1
    room_B1 = width - above.sum(axis=1, keepdims=True)
    chosen = above | (tied & (np.cumsum(tied, axis=1) <= room_B1))
    columns_BK = np.nonzero(chosen)[1].reshape(len(scores_BN), width)
    values_BK = np.take_along_axis(scores_BN, columns_BK, axis=1)
    order_BK = np.argsort(-values_BK, axis=1, kind="stable")
    best_BK = np.take_along_axis(columns_BK, order_BK, axis=1).astype(np.int64)
    best_BK[np.isneginf(np.take_along_axis(values_BK, order_BK, axis=1))] = NOTHING
    return np.pad(best_BK, ((0, 0), (0, k - width)), constant_values=NOTHING)
