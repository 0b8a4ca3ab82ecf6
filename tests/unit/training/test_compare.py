from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.core.errors import ConfigError
from lorefuse.training.compare import compare
from lorefuse.training.row_metrics import METRICS, auc, gauc, logloss, parse_metric, rmse, subset_mask
from lorefuse.training.summary import verdict

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=25
)
"""label, score in fifths (so that ties happen), user, weight."""


def _arrays(rows: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, ...]:
    label, score, user, weight = np.array(rows).T
    return label.astype(float), score / 5, weight.astype(float), user


def _naive_auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    wins = total = 0.0
    for i in np.flatnonzero(label == 1):
        for j in np.flatnonzero(label == 0):
            pair = weight[i] * weight[j]
            wins += pair * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
            total += pair
    return wins / total if total else float("nan")


def test_by_hand() -> None:
    label, score = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.8, 0.8, 0.1])
    assert auc(label, score) == pytest.approx(3.5 / 4)  # pairs: 1, 1, 0.5, 1
    assert auc(label, score, np.array([2.0, 1, 1, 1])) == pytest.approx(5.5 / 6)
    user = np.array([0, 0, 1, 1])
    assert gauc(label, score, None, user) == pytest.approx(1.0)
    # user 0: AUC 1 over 3 rows, user 1: AUC 0 over 2 rows, user 2 has one class and is left out
    assert gauc(
        np.array([1.0, 0, 0, 1, 0, 1]), np.array([3.0, 2, 1, 1, 2, 9]), None, np.array([0, 0, 0, 1, 1, 2])
    ) == pytest.approx(0.6)
    assert logloss(np.array([1.0, 0]), np.array([0.8, 0.5])) == pytest.approx((-np.log(0.8) - np.log(0.5)) / 2)
    assert logloss(np.array([1.0]), np.array([0.0])) == pytest.approx(-np.log(1e-7))
    assert rmse(np.array([1.0, 3]), np.array([2.0, 3]), np.array([3.0, 1])) == pytest.approx(np.sqrt(0.75))
    assert np.isnan(auc(np.ones(3), np.arange(3.0)))


@given(ROWS)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[int, int, int, int]]) -> None:
    label, score, weight, _ = _arrays(rows)
    np.testing.assert_allclose(auc(label, score, weight), _naive_auc(label, score, weight), atol=1e-12)


@given(ROWS)
def test_gauc_is_the_weighted_mean_of_the_users_aucs(rows: list[tuple[int, int, int, int]]) -> None:
    label, score, _, user = _arrays(rows)
    weight = np.array([0.0, 1, 2, 3])[user]  # the bootstrap weighs whole users
    values = [
        (_naive_auc(label[user == u], score[user == u], weight[user == u]), weight[user == u].sum()) for u in set(user)
    ]
    known = [(value, size) for value, size in values if np.isfinite(value)]
    expected = sum(v * s for v, s in known) / sum(s for _, s in known) if known else float("nan")
    np.testing.assert_allclose(gauc(label, score, weight, user), expected, atol=1e-12)


@given(ROWS, st.sampled_from(sorted(METRICS)))
def test_a_weight_of_two_is_a_row_that_stands_twice(rows: list[tuple[int, int, int, int]], name: str) -> None:
    label, score, weight, user = _arrays(rows)
    twice = np.repeat(np.arange(len(label)), weight.astype(int))
    function = METRICS[name][0]
    if len(twice):
        weighted = function(label, score, weight, user)
        np.testing.assert_allclose(weighted, function(label[twice], score[twice], None, user[twice]), atol=1e-9)


@settings(max_examples=25)
@given(ROWS, st.sampled_from(["auc_all", "gauc_warm", "logloss_cold", "rmse_all"]))
def test_a_model_against_itself_gains_nothing(rows: list[tuple[int, int, int, int]], metric: str) -> None:
    label, score, _, user = _arrays(rows)
    cold = user % 2 == 0
    result = compare(metric, label, score, score, user, cold, num_bootstraps=20)
    if np.isfinite(result.new):
        assert result.gain == 0
    assert (result.low, result.high) == (0, 0) or np.isnan(result.high)


def test_sign_interval_and_seed() -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 10)
    label = (rng.random(600) < 0.5).astype(float)
    good, bad = label + rng.standard_normal(600), label + 4 * rng.standard_normal(600)
    cold = np.zeros(600, dtype=bool)
    better = compare("auc_warm", label, good, bad, user, cold, num_bootstraps=200, seed=1)
    worse = compare("auc_warm", label, bad, good, user, cold, num_bootstraps=200, seed=1)
    assert 0 < better.low < better.gain < better.high
    assert (worse.gain, worse.low, worse.high) == pytest.approx((-better.gain, -better.high, -better.low))
    assert better == compare("auc_warm", label, good, bad, user, cold, num_bootstraps=200, seed=1)
    assert compare("rmse_all", label, good, bad, user, cold, num_bootstraps=50).gain > 0  # lower is better
    assert np.isnan(compare("auc_cold", label, good, bad, user, cold, num_bootstraps=10).gain)


def test_the_interval_of_a_mean_is_that_of_its_users() -> None:
    """One row a user, loss difference of ±1: the bootstrap's spread is the standard error, 1/√n."""
    n = 400
    user, label = np.arange(n), np.zeros(n)
    old = np.where(np.arange(n) % 2 == 0, np.sqrt(1.5), np.sqrt(0.5))  # squared errors 1.5 and 0.5
    new = np.where(np.arange(n) % 2 == 0, np.sqrt(0.5), np.sqrt(1.5))
    result = compare("rmse_all", label, new, old, user, np.zeros(n, dtype=bool), num_bootstraps=2000)
    assert result.gain == pytest.approx(0, abs=1e-12)
    # d rmse ≈ d mse / (2 rmse) with rmse 1, so the standard error is 1 / √n / 2 = 0.025
    assert result.high == pytest.approx(1.96 * 0.025, rel=0.1)
    assert result.low == pytest.approx(-1.96 * 0.025, rel=0.1)


def _compare_slowly(
    metric: str, label: np.ndarray, new: np.ndarray, old: np.ndarray, user: np.ndarray, cold: np.ndarray, draws: int
) -> tuple[float, float]:
    """The slow way: judge both models anew, with row weights, on every resample."""
    base, subset = parse_metric(metric)
    function, sign = METRICS[base]
    keep = subset_mask(cold, subset)
    users, code = np.unique(user[keep], return_inverse=True)
    rng, gains = np.random.default_rng(3), []
    for _ in range(draws):
        weight = rng.multinomial(len(users), np.full(len(users), 1 / len(users))).astype(float)[code]
        values = [function(label[keep], scores[keep], weight, code) for scores in (new, old)]
        gains.append(sign * (values[0] - values[1]))
    known = np.array(gains)[np.isfinite(gains)]
    return (float("nan"), float("nan")) if not len(known) else tuple(np.quantile(known, [0.025, 0.975]))


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from([f"{name}_{subset}" for name in sorted(METRICS) for subset in ("all", "warm", "cold")]))
def test_sorting_once_gives_what_judging_every_resample_gives(
    rows: list[tuple[int, int, int, int]], metric: str
) -> None:
    label, new, other, user = _arrays(rows)
    old, cold = (other + label) % 3 / 3, other > 1
    if not subset_mask(cold, metric.rpartition("_")[2]).any():
        return
    result = compare(metric, label, new, old, user * 10, cold, num_bootstraps=20, seed=3)
    expected = _compare_slowly(metric, label, new, old, user * 10, cold, draws=20)
    np.testing.assert_allclose((result.low, result.high), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["auc", "auc_tepid", "accuracy_all", ""])
def test_unknown_metrics_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="gate_metric"):
        parse_metric(name)


@pytest.mark.parametrize("num_users", [1, 5, 6])
def test_few_users_have_no_interval(num_users: int) -> None:
    """One user gave "hurt, -0.0833 [-0.0833, -0.0833]"."""
    label = np.tile([0.0, 1.0, 0.0, 1.0], num_users)
    good, bad = label, 1 - label
    user = np.repeat(np.arange(num_users), 4)
    cold = np.zeros(len(label), dtype=bool)
    result = compare("auc_warm", label, bad, good, user, cold, num_bootstraps=20)
    assert (result.gain, result.num_users) == (-1, num_users)
    assert np.isfinite(result.interval).all() == (num_users == 6)
    words = verdict(dict(zip(("low", "high"), result.interval, strict=True)))
    assert words == ("hurt" if num_users == 6 else "no evidence")
