"""EASE: a linear item-to-item model with a closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.errors import UsageError
from lorefuse.retrieval.recommender import Recommender, Rows, Side

MAX_ITEMS = 30_000
"""Its weights are dense: 30,000 items take 3.6 GB in float32, and twice as much while they are computed."""


class Ease(Recommender):
    """Score items by x_u · B, where B reproduces each user's likes from the others of that user.

    B minimises ‖X − XB‖² + λ‖B‖² with a diagonal of zeros. With P = (XᵀX + λI)⁻¹ it is B_ij = −P_ij / P_jj off the
    diagonal. Items without a like in train score 0.

    Args:
        l2: λ.

    Source: EASE, arXiv:1905.03375, eq. 8.
    """

    def __init__(self, l2: float = 250.0) -> None:
        self.l2 = l2

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        from scipy.linalg import lapack

        # Only liked items take part: the others' rows and columns of B are zeros, and the cost is cubic.
        self.liked_M = np.unique(train_UN.indices)
        if len(self.liked_M) > MAX_ITEMS:
            raise UsageError(
                "EASE holds a dense matrix of all pairs of items, which would not fit here.",
                expected=f"at most {MAX_ITEMS} liked items",
                got=str(len(self.liked_M)),
                fix="leave ease out of retrieval.recommenders, or take item_knn",
            )
        likes_UM = train_UN[:, self.liked_M].astype(np.float64)
        gram_MM = np.asfortranarray((likes_UM.T @ likes_UM).toarray())
        gram_MM[np.diag_indices_from(gram_MM)] += self.l2
        factor_MM, failed = lapack.dpotrf(gram_MM, lower=1, overwrite_a=1)
        inverse_MM, failed_too = lapack.dpotri(factor_MM, lower=1, overwrite_c=1)
        if failed or failed_too:
            raise UsageError("EASE's matrix cannot be inverted.", expected="l2 above 0", got=str(self.l2))
        inverse_MM = np.tril(inverse_MM) + np.tril(inverse_MM, -1).T
        weights_MM = inverse_MM / -np.diag(inverse_MM)
        np.fill_diagonal(weights_MM, 0.0)
        self.weights_MM = weights_MM.astype(np.float32)

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        scores_BN = np.zeros((len(user_rows), history_UN.shape[1]), dtype=np.float32)
        scores_BN[:, self.liked_M] = history_UN[user_rows][:, self.liked_M].astype(np.float32) @ self.weights_MM
        return scores_BN
