"""Running sums against a loop, and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.features import causal
from lorefuse.features.causal import CausalOrder

ROW = st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-3, 3), st.booleans())


def test_by_hand() -> None:
    """Entity 7 at times 2, 1, 1 and entity 3 at time 1; rows of one moment do not see each other."""
    order = CausalOrder.of(np.array([7, 7, 3, 7]), np.array([2, 1, 1, 1]))
    sums = order.sums(np.array([[1.0], [10.0], [100.0], [1000.0]]))
    assert sums.before().ravel().tolist() == [1010.0, 0.0, 0.0, 0.0]
    assert sums.after(np.arange(4)).ravel().tolist() == [1011.0, 1010.0, 100.0, 1010.0]


@given(st.lists(ROW, max_size=30))
def test_before_and_after_are_the_naive_sums(rows: list[tuple[int, int, int, bool]]) -> None:
    entity, time, value = (np.array([row[n] for row in rows], dtype=np.int64) for n in range(3))
    sums = CausalOrder.of(entity, time).sums(value[:, None].astype(np.float32))
    before, after = sums.before(), sums.after(np.arange(len(rows)))
    for n in range(len(rows)):
        mine = entity == entity[n]
        assert before[n, 0] == value[mine & (time < time[n])].sum()
        assert after[n, 0] == value[mine & (time <= time[n])].sum()


@given(st.lists(ROW, max_size=30))
def test_one_snapshot_for_each_moment_that_counts(rows: list[tuple[int, int, int, bool]]) -> None:
    entity, time = (np.array([row[n] for row in rows], dtype=np.int64) for n in range(2))
    counts = np.array([row[3] for row in rows], dtype=bool)
    picked = CausalOrder.of(entity, time).snapshot_rows(counts)
    moments = [(entity[n], time[n]) for n in picked]
    assert len(moments) == len(set(moments))
    assert set(moments) == {(e, t) for e, t, _, counting in rows if counting}


@given(st.lists(ROW, min_size=1, max_size=30))
def test_a_snapshot_is_what_the_next_row_sees(rows: list[tuple[int, int, int, bool]]) -> None:
    """To the bit, with values that floats cannot hold exactly: what ties the feature store to memory."""
    entity, time = (np.array([row[n] for row in rows], dtype=np.int64) for n in range(2))
    values = np.array([[0.1 * row[2] * row[3], row[2] / 3 * row[3]] for row in rows])
    order = CausalOrder.of(entity, time)
    sums, snapshots = order.sums(values), order.snapshot_rows(np.array([row[3] for row in rows]))
    after, before = sums.after(snapshots), sums.before()
    for n in range(len(rows)):
        known = [k for k, s in enumerate(snapshots) if entity[s] == entity[n] and time[s] < time[n]]
        latest = max(known, key=lambda k: time[snapshots[k]], default=None)
        expected = np.zeros(2) if latest is None else after[latest]
        assert before[n].tolist() == expected.tolist()


@given(st.lists(ROW, min_size=1, max_size=30), st.integers(1, 9))
def test_a_stream_of_parts_gives_the_sums_of_the_whole(rows: list[tuple[int, int, int, bool]], part_rows: int) -> None:
    entity, time = (np.array([row[n] for row in rows], dtype=np.int64) for n in range(2))
    counts = np.array([row[3] for row in rows])
    values = np.array([[0.1 * row[2] * row[3], row[2] / 3 * row[3]] for row in rows])
    order = CausalOrder.of(entity, time)
    whole, snapshots = order.sums(values), order.snapshot_rows(counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(causal, "PART_ROWS", part_rows)
        parts = list(order.stream(lambda some: values[some]))
    assert np.concatenate([part.rows for part in parts]).tolist() == order.order.tolist()
    for one, other in itertools.combinations(parts, 2):
        assert not set(entity[one.rows]) & set(entity[other.rows])
    before = np.concatenate([part.sums.before() for part in parts])
    assert before.tolist() == whole.before()[order.order].tolist()
    found = [part.snapshots(counts) for part in parts]
    assert np.concatenate([picked for picked, _ in found]).tolist() == snapshots.tolist()
    assert np.concatenate([after for _, after in found]).tolist() == whole.after(snapshots).tolist()
