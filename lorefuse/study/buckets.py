"""Buckets of test rows: warm and cold, head to tail, and users nobody knows yet. ``R`` rows, ``T`` test rows.

Items are sorted by their train rows. Head items are the most popular ones that hold `head_share` of all train rows,
tail items the least popular ones that hold `tail_share`, torso items the rest; an item on a border belongs to the more
popular side. Cold items have no train row at all, cold users likewise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import StudyConfig
from lorefuse.core.schema import Split
from lorefuse.training_set.arrays import TrainingSet

BUCKETS = ("all", "warm", "head", "torso", "tail", "cold_item", "cold_user", "new_user")
NEW_USER = 5
"""A user with at most so many train rows is new."""

Mask = NDArray[np.bool_]


def bucket_masks(training_set: TrainingSet, config: StudyConfig) -> dict[str, Mask]:
    """Return which test rows belong to each bucket, bool (T,), in the order of `rows_of(Split.TEST)`.

    Args:
        training_set: The rows.
        config: Shares of head and tail.
    """
    train, test = training_set.rows_of(Split.TRAIN), training_set.rows_of(Split.TEST)
    item_count = np.bincount(training_set.item_row[train], minlength=len(training_set.item_fields))
    user_count = np.bincount(training_set.user_row[train], minlength=len(training_set.user_fields))
    zone = popularity_zone(item_count, config.head_share, config.tail_share)[training_set.item_row[test]]
    known_rows = user_count[training_set.user_row[test]]
    return {
        "all": np.ones(len(test), dtype=bool),
        "warm": zone > 0,
        "head": zone == 1,
        "torso": zone == 2,
        "tail": zone == 3,
        "cold_item": zone == 0,
        "cold_user": known_rows == 0,
        "new_user": (known_rows > 0) & (known_rows <= NEW_USER),
    }


def popularity_zone(count: NDArray[np.integer], head_share: float, tail_share: float) -> NDArray[np.int64]:
    """Return 1 head, 2 torso, 3 tail or 0 cold for each item, from its number of train rows.

    Example:
        >>> popularity_zone(np.array([10, 6, 2, 1, 1, 0]), 0.5, 0.2).tolist()
        [1, 2, 2, 3, 3, 0]
    """
    order = np.argsort(-count, kind="stable")
    total = max(int(count.sum()), 1)
    before = (np.cumsum(count[order]) - count[order]) / total
    sorted_zone = np.where(before < head_share - 1e-12, 1, np.where(before < 1 - tail_share - 1e-12, 2, 3))
    zone = np.empty(len(count), dtype=np.int64)
    zone[order] = sorted_zone
    zone[count == 0] = 0
    return zone
