"""The user's profile text as one more interest vector: as of snapshots for the store, as of rows in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lorefuse.contract import Tensor
from lorefuse.errors import ArtifactError
from lorefuse.features import aggregates as a
from lorefuse.features.rows import History
from lorefuse.features.spec import InterestFacet
from lorefuse.knowledge.item_vectors import ItemVectors

PROFILE_FACET = "profile_text"


def profile_facets(vectors: ItemVectors) -> tuple[InterestFacet, ...]:
    """Return the facet of the profile text; none where there are no profiles."""
    if vectors.profile is None:
        return ()
    return (InterestFacet(name=PROFILE_FACET, against=Tensor.ITEM_TEXT, dim=vectors.profile.shape[1]),)


def profile_snapshots(history: History, vectors: ItemVectors, shrinkage: float) -> NDArray[np.float32]:
    """Return the user's side after each snapshot row of `history.user_sums`, (K, E): unit vector times n / (n + κ).

    Args:
        history: The rows.
        vectors: With profiles.
        shrinkage: κ; n counts the user's train rows so far.

    Raises:
        ArtifactError: The profiles are of other rows.
    """
    rows = history.user_sums.snapshot_rows(history.is_train)
    if vectors.profile is None or vectors.profile_row is None:
        return np.zeros((len(rows), 0), dtype=np.float32)
    order = np.argsort(vectors.profile_row)
    if not np.array_equal(vectors.profile_row[order], np.sort(rows)):
        raise ArtifactError(
            "The users' profiles are of other train rows.",
            expected=f"{len(rows)} moments",
            got=f"{len(order)} profiles",
            fix="run again: lorefuse run",
        )
    found = order[np.searchsorted(vectors.profile_row[order], rows)]
    count = history.user_sums.after(rows)[:, :1]
    return (a.unit_rows(vectors.profile[found]) * (count / np.maximum(count + shrinkage, 1e-12))).astype(np.float32)


def profile_rows(history: History, vectors: ItemVectors, shrinkage: float) -> NDArray[np.float32]:
    """Return the user's side as of every row, (R, E): the last snapshot strictly before; zeros where there is none."""
    state = profile_snapshots(history, vectors, shrinkage)
    causal = history.user_order
    is_snapshot = np.zeros(len(causal.order), dtype=bool)
    is_snapshot[history.user_sums.snapshot_rows(history.is_train)] = True
    # Snapshot rows stand in causal order, so a count of those before a place is the number of the next.
    num_before = np.concatenate([[0], np.cumsum(is_snapshot[causal.order])])
    last, first = num_before[causal.block_start], num_before[causal.group_start]
    result = np.zeros((len(causal.order), state.shape[1]), dtype=np.float32)
    known = last > first
    result[causal.order[known]] = state[last[known] - 1]
    return result
