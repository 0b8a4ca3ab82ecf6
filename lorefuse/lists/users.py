"""UserKNN as a view: from a past to the users who took the same, and on to what else they took.

Suffixes: ``U`` users, ``N`` items of the catalogue.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.lists.stage_files import ReaderParts
from lorefuse.lists.tables import with_new_items


def near_users(
    taken_UN: csr_array, user_ids: NDArray[np.integer], places_NN: csr_array | None, config: CandidatesConfig
) -> ReaderParts:
    """Return what `two_stage.NearUsers` reads.

    Args:
        taken_UN: What users took in train, liked or not, values 1.
        user_ids: Index of each user's id in the vocabulary, (U,); 0 is unseen.
        places_NN: Which known items stand in for new ones, from `tables.new_item_places`; None: new items stay out.
        config: Number of neighbours, shrinkage, and the half-life of a past.
    """
    takers_NU = csr_array(taken_UN.T)
    takers_NU.sort_indices()
    arrays = {
        "ids": np.asarray(user_ids, np.int32),
        "takers.indptr": takers_NU.indptr.astype(np.int64),
        "takers.indices": takers_NU.indices.astype(np.int32),
        **_taken(taken_UN if places_NN is None else with_new_items(taken_UN, places_NN, config.num_neighbours)),
    }
    facts = {"num_neighbours": config.num_neighbours, "shrinkage": config.shrinkage, "half_life": config.half_lives[0]}
    return ReaderParts({"kind": "near_users", **facts}, arrays)


def grown_near_users(
    arrays: dict[str, NDArray[Any]], places_NN: csr_array | None, num_items: int, num_neighbours: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays with more items: who took a known item is taken to want the new ones that are most like it.

    Args:
        arrays: From `near_users`.
        places_NN: Which items of before stand in for which new ones, (N, N) after the growth; None: nothing is known.
        num_items: N after the growth.
        num_neighbours: New items that are kept for a user.
    """
    indptr = arrays["takers.indptr"]
    more = {"takers.indptr": np.concatenate([indptr, np.full(num_items + 1 - len(indptr), indptr[-1])])}
    if places_NN is not None:
        parts = (arrays["taken.values"], arrays["taken.indices"], arrays["taken.indptr"])
        taken_UN = csr_array(parts, shape=(len(arrays["ids"]), num_items))
        more |= _taken(with_new_items(taken_UN, places_NN, num_neighbours))
    return {**arrays, **more}


def _taken(taken_UN: csr_array) -> dict[str, NDArray[Any]]:
    taken_UN.sort_indices()
    return {
        "taken.indptr": taken_UN.indptr.astype(np.int64),
        "taken.indices": taken_UN.indices.astype(np.int32),
        "taken.values": taken_UN.data.astype(np.float32),
    }
