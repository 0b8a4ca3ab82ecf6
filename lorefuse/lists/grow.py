"""New items join a candidate stage without training: each takes the place of the known items that are most like it.

Suffixes: ``N`` items after the growth, ``M`` items before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.lists.near import Vectors
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.tables import as_means, knowledge_vectors, new_item_places, standing_in, with_new_items
from lorefuse.lists.two_stage import named
from lorefuse.lists.users import grown_near_users


def grown_stages(fitted: Fitted, blocks: Sequence[Vectors], num_items: int, config: CandidatesConfig) -> Fitted:
    """Return the stages with the items that the catalogue holds beyond them.

    Args:
        fitted: Of M items.
        blocks: What is known about all N items, (N, ·) each; without any the new items are found by nothing but
            their newness.
        num_items: N.
        config: How many known items stand in for a new one.
    """
    num_known = len(fitted.arrays["popularity"])
    arrays: dict[str, NDArray[Any]] = dict(fitted.arrays)
    # Only those that stood there before may lend their place, new ones of then included: they have one of their own.
    before = np.arange(num_items) < num_known
    vectors = knowledge_vectors(blocks, before)
    places = None if vectors is None else new_item_places(vectors, before, max(1, config.new_item_neighbours))
    if places is not None and config.weights is not None:
        places = as_means(places)
    for name in fitted.facts["tables"]:
        arrays |= _grown_table(name, arrays, places, num_items, config.num_neighbours)
    for name, of in fitted.facts["readers"].items():
        grown = _grown_reader(named(arrays, name), of, places, num_items)
        arrays |= {f"{name}.{key}": array for key, array in grown.items()}
    num_new = num_items - num_known
    lowest = np.full(num_new, arrays["popularity"].min(), np.float32)
    arrays["popularity"] = np.concatenate([arrays["popularity"], lowest])
    arrays["is_new"] = np.concatenate([np.asarray(arrays["is_new"]).astype(np.int32), np.ones(num_new, np.int32)])
    return Fitted(arrays, {**fitted.facts, "num_items": num_items})


def _grown_table(
    name: str, arrays: dict[str, NDArray[Any]], places: csr_array | None, num_items: int, num_neighbours: int
) -> dict[str, NDArray[Any]]:
    indptr, indices, values = (arrays[f"{name}.{part}"] for part in ("indptr", "indices", "values"))
    padded = np.concatenate([indptr, np.full(num_items + 1 - len(indptr), indptr[-1])])
    table = csr_array((values, indices, padded), shape=(num_items, num_items))
    if places is not None:
        table = with_new_items(table, places, num_neighbours)
    table.sort_indices()
    return {
        f"{name}.indptr": table.indptr.astype(np.int64),
        f"{name}.indices": table.indices.astype(np.int32),
        f"{name}.values": table.data.astype(np.float32),
    }


def _grown_reader(
    arrays: dict[str, NDArray[Any]], facts: Mapping[str, Any], places: csr_array | None, num_items: int
) -> dict[str, NDArray[Any]]:
    if facts["kind"] == "near_users":
        return grown_near_users(arrays, places, num_items, facts["num_neighbours"])
    return {
        name: _longer(table, places, num_items) if name in ("items", "past") else table
        for name, table in arrays.items()
    }


def _longer(vectors: Vectors, places: csr_array | None, num_items: int) -> Vectors:
    """Return vectors of all items, (N, D), the new ones as the mean of those that stand in for them."""
    if places is None:
        return np.pad(vectors, ((0, num_items - len(vectors)), (0, 0)))
    return np.concatenate([vectors, standing_in(places, vectors)[len(vectors) :]])
