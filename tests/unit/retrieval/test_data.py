from __future__ import annotations

import numpy as np
import pytest

from lorefuse.core.errors import DataError
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.retrieval.data import from_rows, from_training_set
from tests.helpers.training_rows import make_training_set

# user, item, time, liked, split: item 4 is cold, item 3 has only a disliked train row
ROWS = [
    (0, 0, 1, 1, "train"),
    (0, 1, 2, 1, "train"),
    (0, 1, 3, 1, "train"),
    (0, 3, 4, 0, "train"),
    (0, 2, 5, 1, "validation"),
    (0, 4, 6, 1, "test"),
    (0, 3, 7, 1, "test"),
    (1, 2, 1, 1, "train"),
    (1, 4, 2, 1, "excluded"),
    (1, 4, 3, 1, "validation"),
    (1, 0, 4, 1, "test"),
    (1, 1, 5, 0, "test"),
]


def _arrays() -> tuple[np.ndarray, ...]:
    user, item, time, liked, part = zip(*ROWS, strict=True)
    codes = np.array([SPLIT_CODES[name] for name in part])
    return np.array(user), np.array(item), np.array(time), np.array(liked, dtype=bool), codes


def test_matrices_by_hand() -> None:
    data = from_rows(*_arrays(), num_users=2, num_items=5)
    assert data.train.toarray().tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0]]
    assert data.side.time is not None
    assert data.side.time.tolist() == [1, 3, 1]  # a repeated pair counts once, at its latest time
    assert data.history.toarray().tolist() == [[1, 1, 1, 0, 0], [0, 0, 1, 0, 0]]  # no cold item
    assert data.seen.toarray().tolist() == [[1, 1, 1, 1, 0], [0, 0, 1, 0, 1]]
    assert data.warm.toarray().tolist() == [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]  # item 3 was seen by user 0
    assert data.cold.toarray().tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


def test_validation_knows_train_alone() -> None:
    data = from_rows(*_arrays(), num_users=2, num_items=5, judged=Split.VALIDATION)
    assert data.history.toarray().tolist() == data.train.toarray().tolist()
    assert data.warm.toarray().tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert not data.cold.nnz  # item 4 was seen in the excluded row


def test_recency_by_hand() -> None:
    data = from_rows(*_arrays(), num_users=2, num_items=5, recency_half_life=1.0)
    assert data.history.toarray().tolist() == [[0.25, 0.5, 1, 0, 0], [0, 0, 1, 0, 0]]
    assert set(data.train.data) == {1.0}


def test_a_training_set_becomes_a_retrieval_task() -> None:
    training_set = make_training_set()
    data = from_training_set(training_set)
    train = training_set.rows_of(Split.TRAIN)
    liked = train[training_set.label[train] == 1]
    pairs = set(zip(training_set.user_row[liked], training_set.item_row[liked], strict=True))
    assert set(zip(*data.train.nonzero(), strict=True)) == pairs
    assert data.side.time is not None
    assert data.side.time.max() == training_set.timestamp_us[liked].max() / 86_400e6
    assert data.side.text is not None
    cold = np.unique(training_set.item_row[training_set.cold])
    assert set(np.unique(data.cold.indices)) <= set(cold)
    assert not set(np.unique(data.warm.indices)) & set(cold)


def test_no_likes_are_refused() -> None:
    user, item, time, liked, codes = _arrays()
    with pytest.raises(DataError, match="no likes in train"):
        from_rows(user, item, time, liked & (codes != 0), codes, num_users=2, num_items=5)
    with pytest.raises(DataError, match="no likes in test"):
        from_rows(user, item, time, liked & (codes != 2), codes, num_users=2, num_items=5)
