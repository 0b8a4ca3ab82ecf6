"""The item prior: out of fold for train items, by hand where it has a formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.core.errors import ArtifactError
from lorefuse.features.prior import MIN_TRAIN_ITEMS, PRIOR_FILE, RIDGE_ALPHA, ItemPrior, fit_prior, prior_columns

NUM_ITEMS, NUM_TRAIN = 60, 50


def sample(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((NUM_ITEMS, 3)).astype(np.float32)
    count = np.where(np.arange(NUM_ITEMS) < NUM_TRAIN, rng.integers(1, 30, NUM_ITEMS), 0).astype(np.float64)
    return columns, count, np.round(count / (1 + np.exp(-columns[:, 0])))


def fit(columns: np.ndarray, count: np.ndarray, total: np.ndarray, num_folds: int = 5, seed: int = 0) -> ItemPrior:
    return fit_prior(columns, count, total, shrinkage=10.0, num_folds=num_folds, seed=seed)


def ridge(columns: np.ndarray, target: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Weighted ridge with a free intercept, by its normal equations."""
    x_mean, y_mean = np.average(columns, axis=0, weights=weight), np.average(target, weights=weight)
    x, y = columns - x_mean, target - y_mean
    coef = np.linalg.solve((x.T * weight) @ x + RIDGE_ALPHA * np.eye(x.shape[1]), (x.T * weight) @ y)
    return coef, float(y_mean - x_mean @ coef)


def test_cold_items_get_the_fit_on_all_train_items() -> None:
    columns, count, total = sample()
    prior = fit(columns, count, total)
    train = slice(NUM_TRAIN)
    coef, intercept = ridge(
        columns[train].astype(np.float64), total[train] / count[train], count[train] / (count[train] + 10)
    )
    np.testing.assert_allclose(prior.weights, coef, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(prior.values[NUM_TRAIN:], columns[NUM_TRAIN:] @ coef + intercept, rtol=1e-4)
    np.testing.assert_allclose(prior.predict(columns[NUM_TRAIN:]), prior.values[NUM_TRAIN:], rtol=1e-5)


def test_an_items_own_labels_do_not_reach_its_prior() -> None:
    columns, count, total = sample()
    prior = fit(columns, count, total)
    for item in range(0, NUM_TRAIN, 9):
        changed = total.copy()
        changed[item] = count[item] - total[item] + 3
        other = fit(columns, count, changed)
        assert other.values[item] == prior.values[item]
        assert (other.values[NUM_TRAIN:] != prior.values[NUM_TRAIN:]).all()


def test_it_repeats_and_depends_on_the_seed_of_the_folds() -> None:
    values = [fit(*sample(), seed=seed).values for seed in (0, 0, 1)]
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0][:NUM_TRAIN] != values[2][:NUM_TRAIN]).any()
    np.testing.assert_array_equal(values[0][NUM_TRAIN:], values[2][NUM_TRAIN:])


def test_with_few_train_items_it_is_the_overall_mean() -> None:
    columns, count, total = sample()
    count[MIN_TRAIN_ITEMS - 1 :] = total[MIN_TRAIN_ITEMS - 1 :] = 0
    prior = fit(columns, count, total)
    np.testing.assert_allclose(prior.values, total.sum() / count.sum(), rtol=1e-6)
    np.testing.assert_allclose(prior.predict(columns), prior.values, rtol=1e-6)


def test_columns_by_hand() -> None:
    """Two multi-valued fields (sizes 3 and 2, widths 2 and 1) and one category of size 3; index 0 gets no flag."""
    columns = prior_columns(
        [np.float32([[0.5], [0.25]])],
        np.array([[2, 1, 1], [1, 0, 0]]),
        np.array([[2], [0]]),
        (0, 0, 2, 4),
        (3,),
    )
    assert columns.tolist() == [[0.5, 1, 1, 1, 0, 1], [0.25, 1, 0, 0, 0, 0]]


def test_files(tmp_path: Path) -> None:
    prior = fit(*sample())
    prior.save(tmp_path)
    loaded = ItemPrior.load(tmp_path)
    for name in ("weights", "intercept", "values"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(prior, name))
    whole = (tmp_path / PRIOR_FILE).read_bytes()
    (tmp_path / PRIOR_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="item prior"):
        ItemPrior.load(tmp_path)


def test_items_of_which_nothing_is_known_get_the_weighted_mean_of_other_items() -> None:
    """A title and nothing else, judged without its text: no column is left for the regression."""
    _, count, total = sample()
    prior = fit(np.zeros((NUM_ITEMS, 0), np.float32), count, total)
    train = np.arange(NUM_TRAIN)
    target, weight = total[train] / count[train], count[train] / (count[train] + 10)
    np.testing.assert_allclose(prior.values[NUM_TRAIN:], np.average(target, weights=weight), rtol=1e-6)
    assert prior.weights.shape == (0,)
    np.testing.assert_allclose(prior.predict(np.zeros((2, 0), np.float32)), prior.values[NUM_TRAIN : NUM_TRAIN + 2])
    fold = np.random.default_rng(0).permutation(NUM_TRAIN) % 5
    for item in train:
        others = fold != fold[item]
        expected = np.average(target[others], weights=weight[others])
        np.testing.assert_allclose(prior.values[item], expected, rtol=1e-6)
