"""Rolling folds in time, for data too small to tune on one validation part.

Fold f of k trains on the first (f + 1) / (k + 1) of the rows of train and validation and is judged on the next
1 / (k + 1). Test rows are in none. Vocabularies, reducers and the item prior stay as they were fitted on all train
rows: a fold's validation rows are a little less new than real ones, alike for every trial.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.training_set.arrays import TrainingSet


def rolling_folds(training_set: TrainingSet, num_folds: int, *, per_user: bool) -> list[TrainingSet]:
    """Return k training sets that differ in their split alone; the training set itself for one fold.

    Args:
        training_set: The rows.
        num_folds: k.
        per_user: Cut each user's own rows, as a per-user split does; else all rows by time. Rows of one moment are
            never torn apart.
    """
    if num_folds == 1:
        return [training_set]
    parts = [SPLIT_CODES[Split.TRAIN], SPLIT_CODES[Split.VALIDATION]]
    rows = np.flatnonzero(np.isin(training_set.split_code, parts))
    share = _share_before(training_set, rows, per_user)
    folds = []
    for fold in range(1, num_folds + 1):
        first, second = fold / (num_folds + 1), (fold + 1) / (num_folds + 1)
        code = np.full(training_set.num_rows, SPLIT_CODES[Split.EXCLUDED], dtype=np.uint8)
        code[rows[share < first]] = parts[0]
        code[rows[(share >= first) & (share < second)]] = parts[1]
        folds.append(dataclasses.replace(training_set, split_code=code))
    return folds


def _share_before(training_set: TrainingSet, rows: np.ndarray, per_user: bool) -> np.ndarray:
    """Return the share of a group's rows that are strictly earlier than each row."""
    group = training_set.user_row[rows] if per_user else np.zeros(len(rows), dtype=np.int32)
    time = training_set.timestamp_us[rows]
    order = np.lexsort((time, group))
    group, time = group[order], time[order]
    new_group = np.r_[True, group[1:] != group[:-1]]
    new_moment = new_group | np.r_[True, time[1:] != time[:-1]]
    places = np.arange(len(order))
    start = np.maximum.accumulate(np.where(new_group, places, 0))
    moment = np.maximum.accumulate(np.where(new_moment, places, 0))
    size = np.diff(np.r_[np.flatnonzero(new_group), len(order)])[np.cumsum(new_group) - 1]
    share = np.empty(len(order))
    share[order] = (moment - start) / size
    return share
