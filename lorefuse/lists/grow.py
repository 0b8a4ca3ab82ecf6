"""New items join a candidate stage without training: each takes the place of the known items that are most like it.

Suffixes: ``N`` items after the growth, ``M`` items before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.tables import Vectors, knowledge_vectors, new_item_places, with_new_items


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
    for name in fitted.facts["tables"]:
        arrays |= _grown_table(name, arrays, places, num_items, config.num_neighbours)
    for name in fitted.facts["vectors"]:
        items = arrays[f"{name}.items"]
        new = np.zeros((num_items - num_known, items.shape[1]), np.float32)
        if places is not None:
            weights = csr_array(places.T)[num_known:, :num_known]
            total = np.maximum(np.asarray(weights.sum(axis=1)).reshape(-1, 1), 1e-12)
            new = np.asarray(weights @ items / total, dtype=np.float32)
        arrays[f"{name}.items"] = np.concatenate([items, new])
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
