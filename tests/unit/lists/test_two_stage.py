from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lorefuse.lists import two_stage
from lorefuse.lists.two_stage import Candidates, TwoStage, allowed_rows, best_rows, logits, short_past

EMPTY = np.zeros(0, np.int64)


def arrays(num_items: int = 4, seed: int | None = None) -> dict[str, Any]:
    """One table: item 0 leads to item 1 (1.0) and 2 (0.5), item 1 to item 2 (2.0)."""
    table = np.zeros((num_items, num_items), np.float32)
    if seed is None:
        table[0, 1], table[0, 2], table[1, 2] = 1.0, 0.5, 2.0
    else:
        rng = np.random.default_rng(seed)
        table = (rng.random((num_items, num_items)) * (rng.random((num_items, num_items)) < 0.3)).astype(np.float32)
    rows, columns = np.nonzero(table)
    return {
        "t.indptr": np.r_[0, np.cumsum((table != 0).sum(1))].astype(np.int64),
        "t.indices": columns.astype(np.int32),
        "t.values": table[rows, columns],
        "popularity": np.linspace(1, -1, num_items).astype(np.float32),
        "is_new": np.r_[np.zeros(num_items - 1), 1].astype(np.int32),
        "weights": np.array([[1, 0, 0, 0], [1, 0, 0, 0]], np.float32),
        "biases": np.zeros(4, np.float32),
    }


def facts(**other: Any) -> dict[str, Any]:
    return {
        "tables": ["t"],
        "readers": {},
        "signals": [["liked", 1.0], ["seen", 2.0]],
        "history_length": 3,
        "num_candidates": 3,
        "num_returned": 2,
        "label_kind": "binary",
        "final": {"blend": 1.0, "ranker": 0.0, "slope": 2.0, "offset": -1.0},
        **other,
    }


def test_raw_scores_add_up_the_rows_of_a_past_that_counts_less_the_older_it_is() -> None:
    past = {"liked": np.array([1, 0]), "seen": np.array([0])}
    raw = Candidates(arrays(), facts()).raw(past)
    np.testing.assert_allclose(raw[0], [0, 0.5 * 1, 2 + 0.5 * 0.5, 0])  # item 0 is one like old: half
    np.testing.assert_allclose(raw[1], [0, 1, 0.5, 0])


def test_dense_and_sparse_tables_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    content, past = arrays(30, seed=3), {"liked": np.array([4, 9, 2, 7]), "seen": EMPTY}
    dense = Candidates(content, facts()).raw(past)
    monkeypatch.setattr(two_stage, "MAX_DENSE_BYTES", 0)
    sparse = Candidates(content, facts())
    assert sparse.dense is None
    np.testing.assert_allclose(sparse.raw(past), dense, atol=1e-6)


def test_more_items_than_the_history_length_are_not_read() -> None:
    stages = Candidates(arrays(30, seed=3), facts())
    three = stages.raw({"liked": np.array([4, 9, 2]), "seen": EMPTY})
    np.testing.assert_array_equal(stages.raw({"liked": np.array([4, 9, 2, 7]), "seen": EMPTY}), three)


def test_views_are_z_scores_and_their_signed_logarithm() -> None:
    stages = Candidates(arrays(), facts())
    plain, log = stages.views(np.array([[0, 0, 0, 4]], np.float32))
    np.testing.assert_allclose(plain, [-0.57735, -0.57735, -0.57735, 1.73205], rtol=1e-5)
    np.testing.assert_allclose(log, np.sign(plain) * np.log1p(np.abs(plain)), rtol=1e-5)
    assert not stages.views(np.full((1, 4), 3, np.float32)).any(), "scores that say nothing stay zero"


def test_somebody_without_a_past_gets_what_is_popular() -> None:
    content = {**arrays(), "biases": np.array([0.5, 0.5, 0, 0], np.float32)}
    rows, _ = TwoStage(content, facts()).find({"liked": EMPTY, "seen": EMPTY}, EMPTY)
    assert rows.tolist() == [0, 1, 2]


def test_new_items_have_weights_and_a_lift_of_their_own() -> None:
    content = {**arrays(), "biases": np.array([0, 0, 5, 0], np.float32)}
    rows, _ = TwoStage(content, facts()).find({"liked": np.array([0]), "seen": EMPTY}, EMPTY)
    assert rows[0] == 3
    content["weights"] = np.array([[1, 0, 0, 0], [-100, 0, 0, 0]], np.float32)
    assert Candidates(content, facts()).score({"liked": np.array([0]), "seen": EMPTY})[3] > 5


def test_excluded_rows_never_come_back_and_listed_ones_are_all_there_is() -> None:
    stages, past = TwoStage(arrays(), facts()), {"liked": np.array([0]), "seen": EMPTY}
    rows, _ = stages.find(past, np.array([1, -1, -1]))
    assert 1 not in rows
    assert len(rows) == 3
    assert set(stages.find(past, np.array([-2 - 3, -2 - 1, 1]))[0]) == {3}
    assert stages.find(past, np.array([-2 - 4]))[0].tolist() == [], "a row that is not there: nothing may be shown"
    assert allowed_rows(np.array([-1, -1]), 4) is None


def test_the_best_come_first_and_the_lower_row_among_equals() -> None:
    rows, scores = best_rows(np.array([1.0, 3.0, 3.0, -np.inf, 2.0]), 3)
    assert rows.tolist() == [1, 2, 4]
    assert scores.tolist() == [3.0, 3.0, 2.0]
    assert best_rows(np.array([-np.inf, 1.0]), 5)[0].tolist() == [1]


def test_the_ranker_moves_candidates_and_scores_are_chances() -> None:
    rows, blend = np.array([5, 2, 9]), np.array([1.0, 0.5, 0.0], np.float32)
    order, chance = TwoStage(arrays(), facts()).order(rows, blend)
    assert order.tolist() == [5, 2]
    np.testing.assert_allclose(chance, 1 / (1 + np.exp(-(2 * blend[:2] - 1))), rtol=1e-6)
    both = TwoStage(arrays(), facts(final={"blend": 1.0, "ranker": 1.0, "slope": 1.0, "offset": 0.0}))
    assert both.asks_ranker
    order, _ = both.order(rows, blend, np.array([0.5, 0.5, 0.99], np.float32))
    assert order.tolist() == [9, 5]
    assert not TwoStage(arrays(), facts()).asks_ranker


def test_certain_scores_stay_finite() -> None:
    assert np.isfinite(logits(np.array([0.0, 1.0], np.float32), "binary")).all()
    assert logits(np.array([3.5], np.float32), "regression").tolist() == [3.5]


def test_a_short_past_leaves_more_to_what_everybody_likes() -> None:
    assert short_past({"liked": EMPTY, "seen": EMPTY}) == 1
    assert short_past({"liked": np.arange(3), "seen": np.arange(10)}) == pytest.approx(0.5)


def test_without_tables_popularity_is_all_there_is() -> None:
    content = {
        **arrays(), "weights": np.zeros((2, 0), np.float32), "biases": np.array([1, 0, 0, 0], np.float32)
    }  # fmt: skip
    rows, _ = TwoStage(content, facts(tables=[])).find({"liked": np.array([2]), "seen": EMPTY}, EMPTY)
    assert rows.tolist() == [0, 1, 2]
