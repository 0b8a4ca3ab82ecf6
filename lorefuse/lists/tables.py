"""Tables from item to item: what somebody with this item in their past may want next.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``E`` width of vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.lists.near import Vectors, nearest_vectors
from lorefuse.retrieval.content import unit_rows
from lorefuse.retrieval.ease import Ease
from lorefuse.retrieval.neighbours import keep_nearest, nearest_items

ROWS_PER_L2 = 6.0
"""EASE's λ beside the mean rows of an item: dense data wants more (MovieLens-100K 300, Amazon Beauty below 100)."""
SIMILARITY_POWER = 2
"""Cosines are squared: what is nearest counts more than the many that are a little alike."""


def collaborative_tables(taken_UN: csr_array, config: CandidatesConfig) -> dict[str, csr_array]:
    """Return the tables of who took both, of those that the configuration asks for, (N, N) each.

    Args:
        taken_UN: What users took in train, liked or not, values 1.
        config: Which tables, and their settings.
    """
    result = {}
    num_taken = int((np.bincount(taken_UN.indices, minlength=taken_UN.shape[1]) > 0).sum())
    if "ease" in config.views and num_taken <= config.max_ease_items:
        result["ease"] = _ease(taken_UN, config)
    if "item_knn" in config.views:
        result["item_knn"] = nearest_items(taken_UN, config.num_neighbours, config.shrinkage)
    return {name: table.astype(np.float32) for name, table in result.items()}


def _ease(taken_UN: csr_array, config: CandidatesConfig) -> csr_array:
    """Return EASE's weights from a past item to all, of each the largest by size."""
    num_taken = len(np.unique(taken_UN.indices))
    recommender = Ease(config.ease_l2 or ROWS_PER_L2 * taken_UN.nnz / num_taken).fit(taken_UN)
    liked_M, weights_MM = recommender.liked_M, recommender.weights_MM
    kept = min(config.num_neighbours, len(liked_M))
    columns = np.argpartition(-np.abs(weights_MM), kept - 1, axis=1)[:, :kept]
    values = np.take_along_axis(weights_MM, columns, axis=1)
    rows = np.repeat(liked_M, kept)
    shape = (taken_UN.shape[1],) * 2
    return csr_array((values.ravel(), (rows, liked_M[columns.ravel()])), shape=shape)


def knowledge_vectors(blocks: Sequence[Vectors], known_N: NDArray[np.bool_]) -> Vectors | None:
    """Return what is known about the items as one vector of unit length each, (N, E); zeros where nothing is.

    Each block is centred on the mean of the known items first: sentence vectors share a direction that says nothing.

    Args:
        blocks: Texts, graph and whatever else is known, (N, ·) each; a row of zeros is an item without.
        known_N: Items with a train row.
    """
    parts = []
    for block in blocks:
        has_N = np.abs(block).sum(axis=1) > 0
        if not (has_N & known_N).any():
            continue
        parts.append(unit_rows((block - block[has_N & known_N].mean(axis=0)) * has_N[:, None]))
    return unit_rows(np.concatenate(parts, axis=1)) if parts else None


def content_table(vectors_NE: Vectors, config: CandidatesConfig) -> csr_array:
    """Return the squared cosines of each item with the nearest others, (N, N); none below 0."""
    return nearest_vectors(vectors_NE, vectors_NE, config.num_neighbours, SIMILARITY_POWER, among_themselves=True)


def new_item_places(vectors_NE: Vectors, known_N: NDArray[np.bool_], num_neighbours: int) -> csr_array:
    """Return which known items stand in for each new one, (N, N): a table times this is the table of the new items.

    Args:
        vectors_NE: Of unit length, zeros where nothing is known.
        known_N: Items with a train row.
        num_neighbours: Known items that count for a new one.

    Source: in the manner of Gantner et al., ICDM 2010, who map attributes to a factor model by the nearest items.
    """
    known, new = np.flatnonzero(known_N), np.flatnonzero(~known_N)
    near_CN = nearest_vectors(vectors_NE[new], vectors_NE[known], num_neighbours, power=1)
    rows = np.repeat(new, np.diff(near_CN.indptr))
    return csr_array((near_CN.data, (known[near_CN.indices], rows)), shape=(len(known_N),) * 2)


def as_means(places_NN: csr_array) -> csr_array:
    """Return places in which a new item scores as the mean of those that stand in for it, and not as their sum.

    Learned weights bring sums to scale by themselves; weights that are given would put every new item on top.
    """
    total_N = np.maximum(np.asarray(places_NN.sum(axis=0)).ravel(), 1e-12)
    return csr_array(
        (places_NN.data / total_N[places_NN.indices], places_NN.indices, places_NN.indptr), places_NN.shape
    )


def standing_in(places_NN: csr_array, vectors_ND: Vectors) -> Vectors:
    """Return for each item the mean vector of those that stand in for it, (N, D); zeros where none does."""
    weights_NN = csr_array(places_NN.T)[:, : len(vectors_ND)]
    total_N1 = np.maximum(np.asarray(weights_NN.sum(axis=1)).reshape(-1, 1), 1e-12)
    return np.asarray(weights_NN @ vectors_ND / total_N1, dtype=np.float32)


def with_new_items(table_NN: csr_array, places_NN: csr_array, num_neighbours: int) -> csr_array:
    """Return a table, of items or users, in which new items stand where the known ones do that are most like them."""
    return csr_array(table_NN + keep_nearest(csr_array(table_NN @ places_NN), num_neighbours)).astype(np.float32)
