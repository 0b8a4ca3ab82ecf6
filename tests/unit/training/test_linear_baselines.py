"""scikit-learn's linear models beside ours, on the same inputs."""

from __future__ import annotations

import numpy as np
import pytest

from lorefuse.config import LogisticRegressionConfig, TrainingConfig
from lorefuse.core.schema import Split
from lorefuse.features.arms import with_knowledge
from lorefuse.training.linear_baselines import _numbers, _one_hot, fit_baseline
from lorefuse.training.row_metrics import auc, rmse
from lorefuse.training.train import score_rows, train
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import make_training_set, small_config


@pytest.fixture(scope="module")
def rows() -> TrainingSet:
    return make_training_set(num_rows=3000)


def test_our_logistic_regression_and_theirs_agree(rows: TrainingSet) -> None:
    """Two solvers of one convex problem, with penalties of their own: AUC within 0.01, scores in the same order."""
    training = TrainingConfig(batch_size=256, learning_rate=0.02, max_epochs=40, patience=5, num_threads=1)
    model = LogisticRegressionConfig(id_dropout=0.0)
    test = rows.rows_of(Split.TEST)
    label = rows.label[test].astype(np.float64)
    for arm in ("real", "none"):
        given = with_knowledge(rows, arm, small_config().features)
        ours = score_rows(train(given, model, training).ranker, given, test).astype(np.float64)
        theirs = fit_baseline("sklearn_logistic", given, test).scores.astype(np.float64)
        assert abs(auc(label, ours) - auc(label, theirs)) < 0.01
        assert auc(label, theirs) > 0.6
        assert np.corrcoef(ours, theirs)[0, 1] > 0.97


def test_products_find_what_a_line_cannot(rows: TrainingSet) -> None:
    """Users like items by their own taste, which is a product of the two."""
    test = rows.rows_of(Split.TEST)
    label = rows.label[test].astype(np.float64)
    given = with_knowledge(rows, "none", small_config().features)
    line, products = (fit_baseline(name, given, test) for name in ("sklearn_logistic", "sklearn_fm_sketch"))
    assert auc(label, products.scores.astype(float)) > auc(label, line.scores.astype(float)) + 0.02
    assert products.scores.dtype == np.float32
    again = fit_baseline("sklearn_fm_sketch", given, test)
    np.testing.assert_array_equal(again.scores, products.scores)


def test_values_are_predicted_by_ridge() -> None:
    rows = make_training_set(num_rows=1500, label_kind="regression")
    test = rows.rows_of(Split.TEST)
    label = rows.label[test].astype(np.float64)
    found = fit_baseline("sklearn_logistic", rows, test).scores.astype(np.float64)
    assert rmse(label, found) < rmse(label, np.full(len(label), label.mean()))


def test_inputs_are_those_of_the_rankers(rows: TrainingSet) -> None:
    some = np.arange(5)
    one_hot = _one_hot(rows, some).toarray()
    spec = rows.spec
    sizes = [field.size for field in (*spec.user_fields, *spec.item_fields, *spec.item_multi_fields)]
    assert one_hot.shape == (5, sum(sizes))
    np.testing.assert_allclose(one_hot[:, : sum(sizes[:4])].sum(1), 4)
    np.testing.assert_allclose(one_hot[:, sum(sizes[:4]) :].sum(1), 1)
    numbers = _numbers(rows, some)
    width = len(spec.user_numeric) + len(spec.item_numeric) + sum(block.dim for block in spec.knowledge)
    assert numbers.shape == (5, width + len(spec.interest))
