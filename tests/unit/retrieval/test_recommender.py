from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from lorefuse.core.errors import UsageError
from lorefuse.retrieval.metrics import NOTHING
from lorefuse.retrieval.popularity import Popularity
from lorefuse.retrieval.recommender import Side, recommend, top_k


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 9))
def test_top_k_is_a_stable_sort(rows: list[list[int]], k: int) -> None:
    scores = np.where(np.array(rows) == -2, -np.inf, np.array(rows)).astype(np.float32)
    expected = [[n for n in sorted(range(6), key=lambda n: -row[n]) if row[n] > -2][:k] for row in rows]
    for got, want in zip(top_k(scores, k), expected, strict=True):
        assert got.tolist() == want + [NOTHING] * (k - len(want))


def test_popularity_by_hand() -> None:
    train = csr_array(np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1]], dtype=np.float32))
    np.testing.assert_array_equal(Popularity().fit(train).scores(np.array([0, 2])), [[3, 1, 1]] * 2)
    # entries in order of user and item: (0,0) (0,1) (1,0) (2,0) (2,2)
    side = Side(time=np.array([0.0, 20, 10, 0, 10]))
    np.testing.assert_allclose(Popularity(10.0).fit(train, side).scores(np.array([1])), [[0.25 + 0.5 + 0.25, 1, 0.5]])


def test_seen_items_are_left_out_and_ties_go_to_the_first() -> None:
    train = csr_array(np.array([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=np.float32))
    ranked = recommend(Popularity().fit(train), np.array([1, 0]), 4, seen_UN=train)
    assert ranked.tolist() == [[1, 2, 3, NOTHING], [2, 3, NOTHING, NOTHING]]


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(UsageError, match="has not been fitted"):
        Popularity().scores(np.array([0]))
    with pytest.raises(UsageError, match="nothing to fit"):
        Popularity().fit(csr_array((2, 3), dtype=np.float32))
    with pytest.raises(UsageError, match="half-life needs the likes' times"):
        Popularity(1.0).fit(csr_array(np.eye(2, dtype=np.float32)))
