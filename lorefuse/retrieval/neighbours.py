"""ItemKNN and UserKNN: collaborative filtering by the nearest items or users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from lorefuse.retrieval.recommender import Recommender, Rows, Side

MAX_PRODUCTS = 1 << 25
"""Products of a block of items with all others that are held at once, a few hundred megabytes."""


def cosine(left_AF: csr_array, right_BF: csr_array, shrinkage: float = 0.0) -> csr_array:
    """Return the shrunken cosine of each row of one matrix with each row of another, (A, B).

    s(a, b) = a·b / (‖a‖ ‖b‖ + shrinkage): a pair with few common entries is pulled to 0. Pairs without a common
    entry are not stored.

    Args:
        left_AF: Sparse rows.
        right_BF: Sparse rows.
        shrinkage: Not negative.

    Source: Dacrema et al., RecSys 2019, the ItemKNN baseline.
    """
    dot_AB = csr_array(left_AF @ right_BF.T)
    norm_A, norm_B = (np.sqrt(side.multiply(side).sum(axis=1)) for side in (left_AF, right_BF))
    rows = np.repeat(np.arange(dot_AB.shape[0]), np.diff(dot_AB.indptr))
    dot_AB.data = dot_AB.data / (norm_A[rows] * norm_B[dot_AB.indices] + shrinkage)
    return dot_AB


def keep_nearest(similarity_AB: csr_array, num_neighbours: int) -> csr_array:
    """Keep the largest entries of each row; of equal ones the smaller column."""
    num_rows = similarity_AB.shape[0]
    rows = np.repeat(np.arange(num_rows), np.diff(similarity_AB.indptr))
    order = np.lexsort((similarity_AB.indices, -similarity_AB.data, rows))
    rank = np.arange(len(order)) - similarity_AB.indptr[rows]  # rows stay where they are, sorted inside
    kept = np.sort(order[rank < num_neighbours])
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=num_rows))])
    return csr_array((similarity_AB.data[kept], similarity_AB.indices[kept], indptr), shape=similarity_AB.shape)


def without(similarity_AB: csr_array, column_A: Rows) -> csr_array:
    """Drop one column of each row: the item or user itself."""
    rows = np.repeat(np.arange(similarity_AB.shape[0]), np.diff(similarity_AB.indptr))
    kept = similarity_AB.indices != column_A[rows]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=similarity_AB.shape[0]))])
    return csr_array((similarity_AB.data[kept], similarity_AB.indices[kept], indptr), shape=similarity_AB.shape)


def nearest_items(took_UN: csr_array, num_neighbours: int, shrinkage: float) -> csr_array:
    """Return the cosines of each item with the others that were taken by the same users, the largest of each, (N, N).

    Items are taken by blocks: what a block has in common with the catalogue is all that is held at once.

    Args:
        took_UN: Who took what.
        num_neighbours: Entries of a row, the item itself not among them.
        shrinkage: See `cosine`.
    """
    items_NU = csr_array(took_UN.T)
    # Entries of an item's products: what all who took it took.
    num_products = np.cumsum(items_NU.astype(bool).astype(np.int64) @ np.diff(took_UN.indptr).astype(np.int64))
    ends = np.arange(MAX_PRODUCTS, num_products[-1] if len(num_products) else 0, MAX_PRODUCTS)
    blocks = np.split(np.arange(items_NU.shape[0]), np.searchsorted(num_products, ends))
    parts = [
        keep_nearest(without(cosine(items_NU[rows], items_NU, shrinkage), rows), num_neighbours)
        for rows in blocks
        if len(rows)
    ]
    return csr_array(vstack(parts)) if parts else csr_array(items_NU.shape[:1] * 2)


class ItemKNN(Recommender):
    """Score an item by how near it is to what the user liked: x_u · S, with S the items' nearest neighbours.

    Args:
        num_neighbours: Neighbours that each item keeps, itself not among them.
        shrinkage: See `cosine`.

    Source: Deshpande and Karypis, TOIS 2004, section 4, without their row normalisation.
    """

    def __init__(self, num_neighbours: int = 100, shrinkage: float = 10.0) -> None:
        self.num_neighbours, self.shrinkage = num_neighbours, shrinkage

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        self.similarity_NN = nearest_items(train_UN, self.num_neighbours, self.shrinkage)

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        return np.asarray((history_UN[user_rows] @ self.similarity_NN).toarray())


class UserKNN(Recommender):
    """Score an item by how near the users are who liked it: Σ s(u, v) over the nearest users v that have it.

    Args:
        num_neighbours: Nearest train users that count, the user itself not among them.
        shrinkage: See `cosine`.

    Source: Herlocker et al., SIGIR 1999, for likes instead of ratings.
    """

    def __init__(self, num_neighbours: int = 100, shrinkage: float = 10.0) -> None:
        self.num_neighbours, self.shrinkage = num_neighbours, shrinkage

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        self.likes_UN = train_UN

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        similarity_BU = without(cosine(history_UN[user_rows], self.likes_UN, self.shrinkage), user_rows)
        return np.asarray((keep_nearest(similarity_BU, self.num_neighbours) @ self.likes_UN).toarray())
