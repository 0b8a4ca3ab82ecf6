"""Recent liked items as of each row: what models with a history (DIN) read. ``R`` rows, ``L`` history length.

Computed in memory from the rows themselves whenever a model wants it, rather than stored for every row: at 25 million
rows and L = 50 it would be 5 GB that most models never read. Serving gives the same list from the online store's
`user_history` view; a test holds the two together.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.features.rows import Interactions
from lorefuse.training_set.arrays import TrainingSet

_PART_ROWS = 1 << 17


def recent_liked(history: Interactions, length: int, rows_B: NDArray[np.integer] | None = None) -> NDArray[np.int32]:
    """Return item rows + 1 of the last `length` liked train items strictly before some rows' times, (B, L).

    Oldest first, padded with 0 on the left. Items liked at one moment keep the order of the rows.

    Args:
        history: R rows.
        length: L.
        rows_B: Positions among the R; None: of all.
    """
    causal, num_rows = history.user_order, len(history.user_order.order)
    counts = (history.liked & history.is_train)[causal.order]
    # The last entry is what place -1 reads: a row without as many likes.
    liked = np.append(history.item_row[causal.order[counts]].astype(np.int32) + 1, np.int32(0))
    num_before = np.concatenate([[0], np.cumsum(counts)])
    place = np.empty(num_rows, dtype=np.int32)  # of a row in order of user and time
    place[causal.order] = np.arange(num_rows, dtype=np.int32)
    asked = place if rows_B is None else place[rows_B]
    result = np.empty((len(asked), length), dtype=np.int32)
    for start in range(0, len(asked), _PART_ROWS):
        part = asked[start : start + _PART_ROWS]
        last, first = num_before[causal.block_start[part]], num_before[causal.group_start[part]]
        places_RL = last[:, None] + np.arange(-length, 0)
        np.take(liked, np.where(places_RL >= first[:, None], places_RL, -1), out=result[start : start + len(part)])
    return result


def interactions_of(training_set: TrainingSet) -> Interactions:
    """Return the training set's interactions, without sampled negatives, as aggregates see them."""
    real = slice(0, training_set.num_states)
    return Interactions.of(
        training_set.user_row[real],
        training_set.item_row[real],
        training_set.timestamp_us[real],
        training_set.label[real],
        training_set.value[real],
        training_set.split_code[real] == SPLIT_CODES[Split.TRAIN],
        training_set.spec.label_kind,
    )


def every_row_of(training_set: TrainingSet) -> Interactions:
    """Return all rows, of which only train interactions may be known: what item features of negatives come from."""
    known = training_set.split_code == SPLIT_CODES[Split.TRAIN]
    known = known & (np.arange(training_set.num_rows) < training_set.num_states)
    return Interactions.of(
        training_set.user_row,
        training_set.item_row,
        training_set.timestamp_us,
        training_set.label,
        training_set.value,
        known,
        training_set.spec.label_kind,
    )


def with_history(training_set: TrainingSet, length: int) -> TrainingSet:
    """Return the training set with `user_history` of some length; 0 takes it away.

    Args:
        training_set: Rows in any order.
        length: L, how many recent liked items.
    """
    if training_set.spec.history_length == length:
        return training_set
    if length:
        rows = recent_liked(interactions_of(training_set), length)
    else:
        rows = np.zeros((training_set.num_states, 0), dtype=np.int32)
    spec = training_set.spec.model_copy(update={"history_length": length})
    return dataclasses.replace(training_set, spec=spec, user_history=rows)
