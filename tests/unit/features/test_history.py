"""The history a model reads: liked, earlier, newest last."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.features import history as history_module
from lorefuse.features.history import recent_liked, with_history
from lorefuse.features.rows import Interactions
from tests.helpers.training_rows import make_training_set as synthetic


def history_of(rows: list[tuple[int, int, int, int, bool]]) -> Interactions:
    user, item, time, label, train = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions.of(
        user.astype(np.int32), item.astype(np.int32), time.astype(np.int64), label.astype(np.float32),
        label.astype(np.float32), train.astype(bool), "binary",
    )  # fmt: skip


def test_only_earlier_liked_train_rows_count() -> None:
    rows = [(0, 7, 1, 1, True), (0, 8, 2, 0, True), (0, 9, 3, 1, False), (0, 6, 4, 1, True), (0, 5, 5, 1, True)]
    assert recent_liked(history_of(rows), 2).tolist() == [[0, 0], [0, 8], [0, 8], [0, 8], [8, 7]]


def test_rows_of_one_moment_do_not_see_each_other() -> None:
    rows = [(0, 1, 5, 1, True), (0, 2, 5, 1, True), (1, 3, 1, 1, True), (0, 4, 6, 0, True)]
    assert recent_liked(history_of(rows), 3).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 2, 3]]


row = st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 4), st.integers(0, 1), st.booleans())


@given(st.lists(row, min_size=2, max_size=30).filter(lambda rows: any(row[4] for row in rows)), st.integers(1, 4))
def test_equal_to_the_naive_answer(rows: list[tuple[int, int, int, int, bool]], length: int) -> None:
    found = recent_liked(history_of(rows), length)
    for number, (user, _, time, _, _) in enumerate(rows):
        order = sorted(range(len(rows)), key=lambda n: rows[n][2])
        mine = [n for n in order if rows[n][0] == user and rows[n][2] < time]
        liked = [rows[n][1] + 1 for n in mine if rows[n][3] and rows[n][4]]
        assert found[number].tolist() == ([0] * length + liked)[-length:]


def test_some_rows_and_many_parts_answer_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [(*(int(n) for n in rng.integers(0, (4, 9, 30, 2))), bool(rng.random() < 0.7)) for _ in range(100)]
    whole = recent_liked(history_of(rows), 3)
    monkeypatch.setattr(history_module, "_PART_ROWS", 7)
    asked = rng.integers(0, len(rows), 20)
    np.testing.assert_array_equal(recent_liked(history_of(rows), 3), whole)
    np.testing.assert_array_equal(recent_liked(history_of(rows), 3, asked), whole[asked])


def test_with_history_and_back() -> None:
    plain = synthetic()
    long = with_history(plain, 6)
    long.check()
    assert long.user_history.shape == (plain.num_rows, 6)
    assert long.user_history.max() > 0
    assert with_history(long, 0).spec == plain.spec
