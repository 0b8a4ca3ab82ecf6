"""Attacks on losses: against hand-computed numbers, and on models that remember all or nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from lorefuse.core.errors import UsageError
from lorefuse.leaks.membership import CURVE_POINTS, Attack, attack_figures, confidence, likelihood_ratios


def test_confidence_is_the_logit_of_the_true_label() -> None:
    found = confidence(np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.9, 0.5]), "binary")
    np.testing.assert_allclose(found, [np.log(9), -np.log(9), 0], atol=1e-12)
    extreme = confidence(np.array([1.0, 0.0]), np.array([1.0, 1.0]), "binary")
    np.testing.assert_allclose(extreme, [np.log((1 - 1e-7) / 1e-7), -np.log((1 - 1e-7) / 1e-7)])
    np.testing.assert_allclose(confidence(np.array([4.0]), np.array([2.5]), "regression"), [-2.25])


def test_the_ratio_is_that_of_two_normals_with_pooled_variances() -> None:
    # Row 0: in models 0, 1, 2; row 1: in 1, 3. The attacked model is 4, which has row 0.
    is_in = np.array([[1, 0], [1, 1], [1, 0], [0, 1], [1, 0]], bool)
    sure = np.array([[2.0, 0.0], [3.0, 2.0], [4.0, 1.0], [0.0, 4.0], [2.5, 0.5]])
    # With: row 0 has 2, 3, 4, row 1 has 2, 4: means 3, 3, squares 2 + 2, freedom 2 + 1. Without: 0 | 0, 1: .5, 0 + 1.
    expected = [
        norm.logpdf(value, mean_in, np.sqrt(4 / 3)) - norm.logpdf(value, mean_out, np.sqrt(0.5))
        for value, mean_in, mean_out in ((2.5, 3, 0), (0.5, 3, 0.5))
    ]
    np.testing.assert_allclose(likelihood_ratios(sure, is_in)[4], expected)


def test_a_row_that_all_or_no_shadows_have_is_not_judged() -> None:
    is_in = np.array([[1, 0], [1, 1], [1, 0], [1, 1], [0, 1]], bool)
    sure = np.random.default_rng(0).normal(size=(5, 2))
    ratio = likelihood_ratios(sure, is_in)
    assert np.isnan(ratio[4, 0])
    assert np.isfinite(ratio[:, 1]).all()


def test_few_models_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 4"):
        likelihood_ratios(np.zeros((3, 2)), np.ones((3, 2), bool))


def _models(memory: float, num_models: int = 8, num_rows: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences of models that are `memory` surer of the rows they have; rows differ far more than that."""
    rng = np.random.default_rng(1)
    is_in = rng.random((num_models, num_rows)) < 0.5
    hardness = 5 * rng.normal(size=num_rows)
    return hardness + memory * is_in + rng.normal(size=is_in.shape), is_in, np.arange(num_rows) // 20


def _attacks(score: np.ndarray, is_in: np.ndarray, user: np.ndarray) -> list[Attack]:
    return [Attack(of_model, members, user) for of_model, members in zip(score, is_in, strict=True)]


def test_a_model_that_remembers_nothing_gives_nothing_away() -> None:
    sure, is_in, user = _models(memory=0)
    found = attack_figures(_attacks(likelihood_ratios(sure, is_in), is_in, user), 200)
    assert found["auc"]["low"] < 0.5 < found["auc"]["high"]
    assert found["auc"]["mean"] == pytest.approx(0.5, abs=0.01)
    assert found["tpr"]["mean"] == pytest.approx(0.01, abs=0.004)


def test_the_ratio_finds_what_a_threshold_misses() -> None:
    sure, is_in, user = _models(memory=1.5)
    ratio, loss = (attack_figures(_attacks(s, is_in, user), 50) for s in (likelihood_ratios(sure, is_in), sure))
    # Of known normals 1.5 apart the best AUC there is: Φ(1.5 / √2) = .856; means of three or four shadows cost some.
    assert 0.80 < ratio["auc"]["mean"] < norm.cdf(1.5 / np.sqrt(2))
    assert loss["auc"]["mean"] == pytest.approx(norm.cdf(1.5 / np.sqrt(2 * 26)), abs=0.02)
    assert ratio["tpr"]["low"] > loss["tpr"]["high"] > 0.01


def test_found_members_at_one_percent_of_false_alarms() -> None:
    # 200 others at 0 … 199, so two false alarms are allowed: whoever scores above 197 is found.
    score = np.r_[np.arange(200.0), [500.0, 197.5, 197.0, 3.0]]
    is_member = np.arange(204) >= 200
    found = attack_figures([Attack(score, is_member, np.zeros(204, np.int64))], 10)
    assert found["tpr"]["mean"] == 0.5
    assert np.isnan(found["tpr"]["low"]), "one user has no interval"
    wins = (200 + 198 + 197.5 + 3.5) / 800
    assert found["auc"]["mean"] == pytest.approx(wins)
    assert found["curve"][0] == 0.25  # without a false alarm
    assert found["curve"][-1] == 1
    assert len(found["curve"]) == len(CURVE_POINTS)
    assert (found["num_members"], found["num_others"]) == (4, 200)


def test_equal_scores_raise_the_alarm_together() -> None:
    score, is_member = np.r_[np.ones(10), np.zeros(200)], np.r_[np.ones(5, bool), np.zeros(205, bool)]
    found = attack_figures([Attack(score, is_member, np.zeros(210, np.int64))], 10)
    assert found["tpr"]["mean"] == 0, "five others share the members' score, two are allowed"
