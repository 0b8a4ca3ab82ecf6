"""Views whose user is a sum of vectors: content, two towers, LightGCN; see `two_stage.PastSums`.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``D`` width of vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config import RetrievalConfig
from lorefuse.lists.likes import likes_of, with_directions
from lorefuse.lists.near import Vectors
from lorefuse.lists.stage_files import ReaderParts
from lorefuse.lists.tables import standing_in
from lorefuse.training_set.arrays import TrainingSet

NOBODY = np.zeros(1, np.int64)


def content_sums(vectors_ND: Vectors, half_life: float) -> ReaderParts:
    """Return what is known about the items as a view of its own: the cosine with the mean of a past.

    Source: as `retrieval.content.ContentCosine`.

    Args:
        vectors_ND: Of unit length, zeros where nothing is known.
        half_life: After how many later likes a like counts half.
    """
    users = np.zeros((0, vectors_ND.shape[1]), np.float32)
    return _parts(vectors_ND, vectors_ND, users, NOBODY, half_life=half_life, root=False)


def two_tower_sums(
    training_set: TrainingSet, text: Vectors | None, config: RetrievalConfig, threshold: float, seed: int
) -> ReaderParts:
    """Train two towers on train likes, stopped by validation likes, and keep what serving needs of them.

    A like counts half after `two_tower.history_half_life` later ones, in training and where a user is served.

    Args:
        training_set: The arm's rows and graph.
        text: What the arm knows of the items' texts, (N, ·); None: nothing.
        config: Settings of the towers.
        threshold: Label from which a row is a like.
        seed: Of initialisation, shuffling, draws and dropout.
    """
    from lorefuse.retrieval.two_tower import TwoTower
    from lorefuse.retrieval.vectors import TowerArrays, unit

    section = config.two_tower
    likes = likes_of(training_set, text, threshold, section.history_half_life)
    recommender = TwoTower(with_directions(section, likes), seed).fit(likes.train, likes.side, likes.ndcg)
    towers = TowerArrays.of(recommender, training_set)
    return _parts(
        unit(towers.item_vectors),
        towers.item_vectors @ towers.history,
        towers.user_table,
        towers.user_offsets,
        half_life=section.history_half_life,
        root=False,
    )


def light_gcn_sums(
    training_set: TrainingSet, text: Vectors | None, config: RetrievalConfig, threshold: float, seed: int
) -> ReaderParts:
    """Train LightGCN on train likes, and keep its items and what folds a user into its graph.

    All likes count the same, as in its graph. Arguments as for `two_tower_sums`.
    """
    from lorefuse.retrieval.light_gcn import LightGCN

    likes = likes_of(training_set, text, threshold, None)
    recommender = LightGCN(with_directions(config.light_gcn, likes), seed).fit(likes.train, likes.side, likes.ndcg)
    users_UD, past_ND, items_ND = recommender.fold_in()
    field = training_set.spec.user_fields[0]
    by_id = np.zeros((field.size, users_UD.shape[1]), np.float32)
    by_id[training_set.user_fields[:, 0]] = users_UD
    by_id[0] = 0  # whoever training has not seen starts from nothing, as in its graph
    return _parts(items_ND, past_ND, by_id, np.array([0, field.size]), half_life=None, root=True)


def with_places(parts: ReaderParts, places_NN: csr_array | None) -> ReaderParts:
    """Return a view in which items that have no vector have that of the known items most like them.

    Args:
        parts: From one of the functions above.
        places_NN: From `tables.new_item_places`; None: they stay without.
    """
    if places_NN is None:
        return parts
    arrays = dict(parts.arrays)
    for name in ("items", "past"):
        missing_N = ~np.asarray(arrays[name].any(axis=1))
        arrays[name] = np.where(missing_N[:, None], standing_in(places_NN, arrays[name]), arrays[name])
    return ReaderParts(parts.facts, arrays)


def _parts(
    items_ND: Vectors,
    past_ND: Vectors,
    users: Vectors,
    offsets: NDArray[np.int64],
    *,
    half_life: float | None,
    root: bool,
) -> ReaderParts:
    arrays: dict[str, NDArray[Any]] = {
        "items": np.asarray(items_ND, np.float32),
        "past": np.asarray(past_ND, np.float32),
        "users": np.asarray(users, np.float32),
        "offsets": np.asarray(offsets, np.int64),
    }
    return ReaderParts({"kind": "past_sums", "half_life": half_life, "root": root}, arrays)
