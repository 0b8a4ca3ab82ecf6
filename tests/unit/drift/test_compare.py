"""Samples of a training set: no drift against themselves, and each kind of drift named in words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.config.drift import DriftConfig
from lorefuse.core.errors import DataError
from lorefuse.core.schema import Split
from lorefuse.drift.compare import compare
from lorefuse.drift.decay import decay, judge_rows
from lorefuse.drift.sample import Sample, sample_of
from tests.helpers.training_rows import make_training_set

CONFIG = DriftConfig(num_bootstraps=40)


def _sample(num_rows: int = 600, seed: int = 0) -> Sample:
    rows = make_training_set(num_rows=num_rows, seed=seed)
    known = rows.rows_of(Split.TRAIN)
    return sample_of(rows, known, np.random.default_rng(seed).random(len(known)))


def test_a_sample_holds_what_the_model_reads_but_no_ids() -> None:
    rows = make_training_set()
    sample = sample_of(rows, rows.rows_of(Split.TEST), None)
    assert set(sample.numeric) == {
        *rows.spec.user_numeric, *rows.spec.item_numeric, "liked_text", "centred_text", "liked_graph", "centred_graph"
    }  # fmt: skip
    assert set(sample.categories) == {"gender", "release_decade", "genres", "label"}
    assert sample.vectors["text"].shape == (sample.num_rows, 4)
    assert sample.unseen_users == 0
    assert 0 < sample.unseen_items < 1  # cold items


def test_an_interest_is_a_dot_product_by_hand() -> None:
    rows = make_training_set()
    row = rows.rows_of(Split.TEST)[:1]
    vector = rows.knowledge["text"][rows.item_row[row[0]]]
    by_hand = float(rows.user_interest[row[0], :4] @ (vector / np.linalg.norm(vector)))
    assert sample_of(rows, row, None).numeric["liked_text"][0] == pytest.approx(by_hand, rel=1e-5)


def test_the_same_rows_have_not_drifted() -> None:
    sample = _sample()
    found = compare(sample, sample, CONFIG)
    assert not found["drifted"]
    assert found["reasons"] == []
    assert all(entry["psi"] == 0 for entry in found["features"].values())
    assert found["score"]["ks"] == 0


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_two_halves_of_one_sample_are_no_drift(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((2, 400))
    first, second = (Sample(num_rows=400, numeric={"x": half}, score=half) for half in values)
    assert not compare(first, second, DriftConfig(alpha=1e-6))["drifted"]


def test_a_moved_feature_is_named() -> None:
    sample = _sample()
    numeric = {name: values + 10 for name, values in sample.numeric.items()}
    found = compare(sample, dataclasses.replace(sample, numeric=numeric), CONFIG)
    assert found["drifted"]
    assert "features have drifted" in found["reasons"][0]
    assert "user_log_count" in found["reasons"][0]
    assert found["features"]["user_log_count"]["fresh_mean"] > found["features"]["user_log_count"]["reference_mean"]


def test_one_moved_feature_of_many_is_reported_but_is_no_drift_as_a_whole() -> None:
    sample = _sample()
    numeric = {**sample.numeric, "item_prior": sample.numeric["item_prior"] + 10}
    found = compare(sample, dataclasses.replace(sample, numeric=numeric), CONFIG)
    assert found["features"]["item_prior"]["drifted"]
    assert not found["drifted"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("score", "the scores have drifted"),
        ("vectors", "the text centroid has moved"),
        ("unseen_users", "users that the model does not know"),
        ("unseen_items", "items that the model does not know"),
    ],
)
def test_each_other_drift_is_named(change: str, words: str) -> None:
    sample = _sample()
    assert sample.score is not None
    changed = {
        "score": sample.score / 3,
        "vectors": {**sample.vectors, "text": -sample.vectors["text"] + 1},
        "unseen_users": 0.9,
        "unseen_items": 0.9,
    }
    found = compare(sample, dataclasses.replace(sample, **{change: changed[change]}), CONFIG)
    assert found["drifted"]
    assert any(words in reason for reason in found["reasons"]), found["reasons"]


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(DataError, match="fresh sample of drift is empty"):
        compare(_sample(), Sample(num_rows=0), CONFIG)


def test_decay_by_hand() -> None:
    label = np.array([0, 1] * 100, dtype=np.float64)
    user = np.repeat(np.arange(50), 4)
    good = judge_rows(label, label * 0.8 + 0.1, user, "binary", CONFIG)
    bad = judge_rows(label, 1 - label, user, "binary", CONFIG)
    assert good["auc"]["value"] == 1
    assert good["gauc"]["value"] == 1
    assert good["logloss"]["value"] == pytest.approx(-np.log(0.9))
    assert bad["auc"]["value"] == 0
    assert decay(good, good, CONFIG) == []
    assert decay(bad, good, CONFIG) == []  # better is no decay
    assert decay(good, bad, CONFIG) == [
        "AUC fell from 1.0000 to 0.0000, by more than 0.02",
        "GAUC fell from 1.0000 to 0.0000, by more than 0.02",
    ]


def test_a_fall_that_chance_explains_is_no_decay() -> None:
    random = np.random.default_rng(0)
    label, user = random.integers(0, 2, 60).astype(np.float64), random.integers(0, 12, 60)
    fresh = judge_rows(label, random.random(60) + label, user, "binary", CONFIG)
    high, value = fresh["auc"]["high"], fresh["auc"]["value"]
    assert high is not None
    assert value is not None
    inside = {"auc": {"value": (high + value) / 2, "low": None, "high": None}}
    assert decay(inside, fresh, DriftConfig(max_auc_drop=0)) == []
    outside = {"auc": {"value": high + 0.01, "low": None, "high": None}}
    assert len(decay(outside, fresh, DriftConfig(max_auc_drop=0))) == 1


def test_decay_of_a_regression() -> None:
    label = np.linspace(1, 5, 40)
    test = judge_rows(label, label + 0.1, np.arange(40), "regression", CONFIG)
    fresh = judge_rows(label, label + 0.2, np.arange(40), "regression", CONFIG)
    assert test["rmse"]["value"] == pytest.approx(0.1)
    assert decay(test, fresh, CONFIG) == ["RMSE rose from 0.1000 to 0.2000, by more than 5%"]


def test_metrics_without_both_labels_are_undefined() -> None:
    found = judge_rows(np.ones(5), np.arange(5.0), np.zeros(5, np.int64), "binary", CONFIG)
    assert found["auc"]["value"] is None
    assert decay(found, found, CONFIG) == []
