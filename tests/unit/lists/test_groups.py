"""Groups of users and items against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from lorefuse.core.schema import Split
from lorefuse.features.vocabulary import Vocabulary, load_user_values, save_user_values
from lorefuse.lists.groups import (
    MAX_GROUPS,
    consumption_shares,
    exposure_shares,
    group_figures,
    largest,
    popularity_groups,
    user_groups,
)
from lorefuse.lists.moments import moments_of
from lorefuse.retrieval.evaluate import interval
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import CategoricalField
from tests.helpers.taste_rows import NUM_ITEMS, NUM_TASTES, NUM_USERS, make_taste_set

K, RECALL_K = 2, 4


def _described_set() -> TrainingSet:
    """Users have a taste as a column, without a value for the last twenty."""
    made = make_taste_set()
    taste = 1 + np.arange(NUM_USERS) % NUM_TASTES
    taste[-20:] = 0
    fields = (*made.spec.user_fields, CategoricalField(name="taste", size=NUM_TASTES + 1))
    spec = made.spec.model_copy(update={"user_fields": fields})
    return replace(made, spec=spec, user_fields=np.stack([made.user_fields[:, 0], taste], axis=1))


def test_head_and_tail_hold_a_fifth_of_the_likes_each() -> None:
    # Likes of items 0 … 6: 4, 1, 3, 0, 1, 1, 0; of 10 in all, items begin at 0 (item 0), 4 (2), 7, 8, 9 (1, 4, 5).
    liked = np.array(
        [[1, 1, 1, 0, 1, 1, 0], [1, 0, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], np.float64
    )
    assert popularity_groups(csr_array(liked)).tolist() == [0, 1, 1, 3, 2, 2, 3]


def test_shares_are_of_what_is_shown_and_of_what_was_liked() -> None:
    group = np.array([0, 1, 2, 3])
    shown = np.array([[0, 0, 1, 3], [2, -1, -1, -1], [-1, -1, -1, -1]])
    np.testing.assert_allclose(exposure_shares(shown, group), [[0.5, 0.25, 0, 0.25], [0, 0, 1, 0], [np.nan] * 4])
    liked = csr_array(np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]], np.float64))
    np.testing.assert_allclose(
        consumption_shares(liked, group), [[0.5, 0.5, 0, 0], [np.nan] * 4, [1 / 3, 1 / 3, 1 / 3, 0]]
    )


def test_groups_of_users_come_from_columns_and_activity() -> None:
    training_set = _described_set()
    moments = moments_of(training_set, Split.TEST, 5)
    # A third of the users has one train row less, another third two less.
    train = training_set.rows_of(Split.TRAIN)
    for users, num_gone in ((range(0, 40), 2), (range(40, 80), 1)):
        for user in users:
            training_set.split_code[train[training_set.user_row[train] == user][:num_gone]] = 3
    names = {"taste": ["sour", "sweet", "salt", "bitter"]}
    found = dict(user_groups(moments, training_set, names))
    assert list(found) == ["taste", "activity"]
    group, titles = found["taste"]
    assert titles[:5] == ["unknown", "sour", "sweet", "salt", "bitter"]
    np.testing.assert_array_equal(group, training_set.user_fields[moments.users, 1])
    group, titles = found["activity"]
    assert titles == ["least active, 8–8 rows", "middle, 9–9 rows", "most active, 10–10 rows"]
    np.testing.assert_array_equal(group, moments.users // 40)


def test_of_many_values_the_largest_are_told_apart() -> None:
    code = np.repeat(np.arange(MAX_GROUPS + 5), np.r_[np.full(MAX_GROUPS - 1, 8), 6, 6, 6, 6, 6, 7])
    group, names = largest(code, [str(number) for number in range(MAX_GROUPS + 5)])
    assert names == [*(str(n) for n in range(MAX_GROUPS - 1)), str(MAX_GROUPS + 4), "small groups"]
    assert np.bincount(group).tolist() == [*[8] * (MAX_GROUPS - 1), 7, 30]


def test_nothing_is_said_of_a_few_users() -> None:
    group, names = largest(np.repeat([0, 1, 2, 3], [5, 6, 1, 9]), ["unknown", "a", "b", "c"])
    assert names == ["a", "c", "small groups"]
    assert np.bincount(group).tolist() == [6, 9, 6]
    training_set = _described_set()
    training_set.user_fields[:, 1] = np.where(np.arange(NUM_USERS) < 3, 1, 2)
    moments = moments_of(training_set, Split.TEST, 5)
    shown = np.zeros((len(moments), RECALL_K), np.int64)
    sizes = {"k": K, "recall_k": RECALL_K, "num_bootstraps": 10}
    found = group_figures({"served": shown}, "served", moments, training_set, {}, **sizes)
    assert [row["name"] for row in found["users"]["taste"]] == ["#2"]


def test_figures_are_means_over_the_groups_users() -> None:
    training_set = _described_set()
    moments = moments_of(training_set, Split.TEST, 5)
    # A list that is right on top for two tastes and shows nobody's likes to the others.
    wanted = [moments.all.indices[moments.all.indptr[n] : moments.all.indptr[n + 1]] for n in range(len(moments))]
    shown = np.full((len(moments), RECALL_K), -1, np.int64)
    for number, user in enumerate(moments.users):
        others = np.setdiff1d(np.arange(NUM_ITEMS), wanted[number])[:RECALL_K]
        is_lucky = user % NUM_TASTES < 2
        shown[number] = (np.r_[wanted[number], others] if is_lucky else others)[:RECALL_K]
    sizes = {"k": K, "recall_k": RECALL_K, "num_bootstraps": 400}
    found = group_figures({"served": shown}, "served", moments, training_set, {}, **sizes)
    rows = {row["name"]: row for row in found["users"]["taste"]}
    assert list(rows) == ["unknown", "#1", "#2", "#3", "#4"]
    assert [rows[name]["ndcg"]["mean"] for name in ("#1", "#2", "#3", "#4")] == [1, 1, 0, 0]
    assert rows["#1"]["recall"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert rows["unknown"]["ndcg"]["mean"] == 0.5
    lucky = sum(row["ndcg"]["mean"] * row["num_users"] for row in rows.values())
    others = (lucky - rows["#1"]["num_users"]) / (len(moments) - rows["#1"]["num_users"])
    gap = rows["#1"]["ndcg_minus_rest"]
    assert gap["mean"] == pytest.approx(1 - others)
    assert 0 < gap["low"] < gap["mean"] < gap["high"] < 1
    items = found["items"]["served"]
    for name in ("exposure", "consumption"):
        assert sum(items[group][name]["mean"] for group in items) == pytest.approx(1)
    group_N = popularity_groups(moments.data.train)
    head = items["head"]
    assert head["exposure"]["mean"] == pytest.approx((group_N[shown[:, :K]] == 0).mean())
    assert head["difference"]["mean"] == pytest.approx(head["exposure"]["mean"] - head["consumption"]["mean"])
    assert sum(found["num_items"].values()) == NUM_ITEMS


def test_the_interval_is_that_of_the_other_figures() -> None:
    from lorefuse.lists import groups

    value = np.random.default_rng(3).random(500)
    mine = groups._estimate(value, np.ones(500, bool), groups._draws(500, 2000, 0))
    assert (mine["low"], mine["high"]) == pytest.approx(interval(value, 2000), abs=0.002)
    error = value.std() / np.sqrt(500)
    assert (mine["high"] - mine["low"]) / 2 == pytest.approx(1.96 * error, rel=0.08)
    few = groups._estimate(value, np.arange(500) < 5, groups._draws(500, 20, 0))
    assert few["mean"] == value[:5].mean()
    assert np.isnan(few["low"])


def test_values_of_fields_are_written_without_ids(tmp_path: Path) -> None:
    assert load_user_values(tmp_path) == {}
    save_user_values({"user_id": Vocabulary(("7",)), "sex": Vocabulary(("F", "M"))}, ["sex"], tmp_path)
    assert load_user_values(tmp_path) == {"sex": ["F", "M"]}
