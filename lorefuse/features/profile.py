"""Texts about the user as more interest vectors: as of snapshots for the store, as of rows in memory.

``profile_text`` is a template over the last liked items, made anew after every moment; ``written_text`` is what a
language model wrote about the history up to some of the moments, and stays until the next one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import TEXT, item_block
from lorefuse.features.aggregates import unit_rows
from lorefuse.features.rows import Interactions
from lorefuse.training_set.spec import InterestFacet
from lorefuse.training_set.vectors import ItemVectors

PROFILE_FACET, WRITTEN_FACET = "profile_text", "written_text"
USER_TEXT_FACETS = (PROFILE_FACET, WRITTEN_FACET)
Text = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Vectors (K, E) and the rows whose moments they include (K,)."""


def user_texts(vectors: ItemVectors) -> dict[str, Text]:
    """Return the kinds of text about users that there are, by facet."""
    pairs = {
        PROFILE_FACET: (vectors.profile, vectors.profile_row),
        WRITTEN_FACET: (vectors.written, vectors.written_row),
    }
    return {name: (matrix, rows) for name, (matrix, rows) in pairs.items() if matrix is not None and rows is not None}


def profile_facets(vectors: ItemVectors) -> tuple[InterestFacet, ...]:
    """Return a facet for each kind of text about users that there is."""
    texts = user_texts(vectors)
    return tuple(
        InterestFacet(name=name, against=item_block(TEXT), dim=matrix.shape[1]) for name, (matrix, _) in texts.items()
    )


def profile_snapshots(history: Interactions, vectors: ItemVectors, shrinkage: float) -> dict[str, NDArray[np.float32]]:
    """Return the user's side after each snapshot row of `history.user_order`, (K, E): unit vector times n / (n + κ).

    Args:
        history: The rows.
        vectors: With texts about users.
        shrinkage: κ; n counts the user's train rows so far.

    Returns:
        By facet, in their order; zeros before a user's first text.

    Raises:
        ArtifactError: The texts are of other rows.
    """
    texts = user_texts(vectors)
    if not texts:
        return {}
    rows = history.user_order.snapshot_rows(history.is_train)
    count = np.concatenate([part.snapshots(history.is_train)[1][:, :1] for part in history.user_parts()])
    result = {}
    for name, (matrix, of_row) in texts.items():
        is_new = np.isin(rows, of_row)
        if is_new.sum() != len(of_row) or (name == PROFILE_FACET and not is_new.all()):
            raise ArtifactError(
                "The users' texts are of other train rows.",
                expected=f"moments among {len(rows)}",
                got=f"{len(of_row)} of {name}",
                fix="run again: lorefuse run",
            )
        # Snapshot rows stand in causal order, user by user: the last text so far is the user's own or there is none.
        last = np.maximum.accumulate(np.where(is_new, np.arange(len(rows)), -1))
        known = (last >= 0) & (history.user_row[rows[last]] == history.user_row[rows])
        order = np.argsort(of_row)
        found = order[np.searchsorted(of_row[order], rows[last[known]])]
        state = np.zeros((len(rows), matrix.shape[1]), dtype=np.float32)
        state[known] = unit_rows(matrix[found])
        result[name] = (state * (count / np.maximum(count + shrinkage, 1e-12))).astype(np.float32)
    return result
