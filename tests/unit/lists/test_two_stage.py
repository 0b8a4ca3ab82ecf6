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


@pytest.mark.parametrize("past", [[4, 9, 2], [4, 4], []])
def test_a_large_catalogue_is_looked_at_where_tables_say_something(past: list[int], monkeypatch: Any) -> None:
    content = arrays(30, seed=3)
    content |= {"weights": np.array([[1, 0.5, 0.3, 0.2], [0.4, 1, 0.1, 0.7]], np.float32)}
    content["biases"] = np.array([0.3, 0.1, 0.2, 0.4], np.float32)
    liked = {"liked": np.array(past, np.int64), "seen": np.array([7], np.int64)}
    monkeypatch.setattr(two_stage, "MAX_DENSE_BYTES", 0)
    whole = Candidates(content, facts())
    views, scores = whole.look(liked), whole.score(liked)
    monkeypatch.setattr(two_stage, "MAX_FULL_ITEMS", 0)
    partly = Candidates(content, facts())
    parts = partly.look(liked)
    assert parts.rows is not None
    assert len(parts.rows) < 30
    wanted = np.array([29, 0, 7, 7, 12, 3])
    np.testing.assert_allclose(parts.at(wanted), views.at(wanted), atol=1e-5)
    np.testing.assert_allclose(partly.score(liked), scores, atol=1e-5)
    np.testing.assert_array_equal(partly.score(liked), partly.score(liked), "nothing is left from the one before")


def test_a_large_catalogue_and_a_past_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_stage, "MAX_DENSE_BYTES", 0)
    monkeypatch.setattr(two_stage, "MAX_FULL_ITEMS", 0)
    stages, nothing = Candidates(arrays(), facts()), {"liked": EMPTY, "seen": EMPTY}
    assert not stages.look(nothing).at(np.array([0, 3])).any()
    np.testing.assert_array_equal(stages.score(nothing), stages.popularity)


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


def test_the_best_of_many_are_found_above_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).standard_normal(5000).round(1)
    expected = best_rows(scores, 40)
    monkeypatch.setattr(two_stage, "MAX_FULL_ITEMS", 0)
    monkeypatch.setattr(two_stage, "NUM_SAMPLED", 300)
    got = best_rows(scores, 40)
    np.testing.assert_array_equal(got[1], expected[1])
    assert best_rows(np.r_[np.zeros(4990), np.arange(10)], 12)[1].tolist() == [*range(9, -1, -1), 0, 0]
    assert len(best_rows(np.full(5000, -np.inf), 3)[0]) == 0


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


def test_near_users_say_what_else_they_took_and_the_user_is_none_of_them() -> None:
    taken = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1]])  # of the users 1, 2 and 3
    content = {
        **arrays(),
        **{f"near.{name}": array for name, array in near(taken).items()},
        "weights": np.array([[1, 0], [1, 0]], np.float32),
    }
    reader = {"kind": "near_users", "num_neighbours": 1, "shrinkage": 0.0, "half_life": None}
    stages = Candidates(content, facts(tables=[], readers={"near": reader}))
    past = {"liked": np.array([0, 1]), "seen": EMPTY}
    np.testing.assert_allclose(stages.raw(past), [[1, 1, 0, 0]], rtol=1e-6)  # the first user has just these
    np.testing.assert_allclose(
        stages.raw({**past, "user": np.array([1])}), [np.array([1, 1, 0, 1]) * 2 / np.sqrt(2 * 3)], rtol=1e-6
    )
    assert not stages.raw({"liked": EMPTY, "seen": EMPTY}).any()


def near(taken: np.ndarray) -> dict[str, Any]:
    users, items = np.nonzero(taken)
    by_item = np.nonzero(taken.T)
    return {
        "ids": np.arange(1, len(taken) + 1, dtype=np.int32),
        "takers.indptr": np.r_[0, np.bincount(by_item[0], minlength=taken.shape[1]).cumsum()],
        "takers.indices": by_item[1].astype(np.int32),
        "taken.indptr": np.r_[0, np.bincount(users).cumsum()],
        "taken.indices": items.astype(np.int32),
        "taken.values": np.ones(len(items), np.float32),
    }


def test_a_users_vector_is_a_sum_of_fields_and_of_the_past() -> None:
    content = {
        **arrays(),
        "sums.items": np.eye(4, 2, dtype=np.float32),
        "sums.past": np.float32([[8, 0], [0, 4], [0, 0], [0, 0]]),
        "sums.users": np.float32([[0, 0], [1, 1], [0, 0], [0, 5]]),
        "sums.offsets": np.array([0, 2, 4]),
        "weights": np.zeros((2, 2), np.float32),
    }
    reader = {"kind": "past_sums", "half_life": 1.0, "root": False}
    past = {"liked": np.array([1, 0]), "seen": EMPTY, "user": np.array([1, 1])}
    raw = Candidates(content, facts(tables=[], readers={"sums": reader})).raw
    np.testing.assert_allclose(raw(past)[0, :2], [1 + 8 / 3, 6 + 4 * 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(raw({**past, "user": np.array([7, 1])})[0, :2], [8 / 3, 5 + 8 / 3], rtol=1e-6)
    root = Candidates(content, facts(tables=[], readers={"sums": {**reader, "root": True}})).raw
    np.testing.assert_allclose(
        root({"liked": past["liked"], "seen": EMPTY})[0, :2], np.array([4, 4]) / np.sqrt(1.5), rtol=1e-6
    )


def test_the_nearest_are_positive_and_the_first_wins_among_equals() -> None:
    assert two_stage.nearest(np.array([0.5, 0, 2, 0.5, -1, 0.5]), 3).tolist() == [2, 0, 3]
    assert two_stage.nearest(np.array([0.5, 0, -1]), 9).tolist() == [0]
    assert two_stage.nearest(np.zeros(0), 2).tolist() == []
