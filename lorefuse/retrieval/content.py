"""What the user liked, by its text: no ids, so new items are ranked like all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.errors import UsageError
from lorefuse.retrieval.recommender import Recommender, Rows, Side


def text_of(side: Side, who: str) -> NDArray[np.float32]:
    """Return the text vectors at unit length, (N, E); an item without text keeps zeros.

    Raises:
        UsageError: There are none.
    """
    if side.text is None or not side.text.shape[1]:
        raise UsageError(f"{who} needs item text.", expected="text vectors", got="none", fix="embed the items")
    return unit_rows(side.text)


def unit_rows(vectors_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length 1; rows of zeros stay zeros."""
    norm_N1 = np.maximum(np.linalg.norm(vectors_NE, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors_NE / norm_N1, dtype=np.float32)


def centred_text(train_UN: csr_array, side: Side, who: str) -> NDArray[np.float32]:
    """Return the text vectors less the mean of the liked train items', at unit length, (N, E); no text keeps zeros.

    Sentence vectors share a direction that says nothing about an item; without it the cosine tells items apart better.

    Raises:
        UsageError: There are none.
    """
    text_NE = text_of(side, who)
    has_text_N1 = text_NE.any(axis=1, keepdims=True)
    liked_N = np.bincount(train_UN.indices, minlength=len(text_NE)) > 0
    return unit_rows((text_NE - text_NE[liked_N].mean(axis=0)) * has_text_N1)


class ContentCosine(Recommender):
    """Score an item by the cosine of its text vector with the mean of the user's liked ones.

    Args:
        centre: Take out what all texts share first, see `centred_text`.

    Source: Lops et al., Recommender Systems Handbook 2011 (nearest to the user's centroid).
    """

    def __init__(self, centre: bool = True) -> None:
        self.centre = centre

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        name = type(self).__name__
        self.text_NE = centred_text(train_UN, side, name) if self.centre else text_of(side, name)

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        mean_BE = np.asarray(history_UN[user_rows] @ self.text_NE)
        return unit_rows(mean_BE) @ self.text_NE.T
