from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lorefuse.report.curves import MAX_ROC_POINTS, calibration, calibration_error, roc

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=1, max_size=60)


def test_by_hand() -> None:
    label, score = np.array([1.0, 1, 0, 0]), np.array([0.9, 0.4, 0.4, 0.1])
    fpr, tpr, area = roc(label, score)
    assert fpr.tolist() == [0, 0, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 1, 1]
    assert area == pytest.approx(3.5 / 4)
    mean_score, mean_label, rows = calibration(label, score, num_bins=2)
    assert rows.tolist() == [2, 2]
    assert mean_score == pytest.approx([0.25, 0.65])
    assert mean_label == pytest.approx([0.5, 0.5])
    constant = np.full(4, 0.75)
    assert calibration_error(np.array([1.0, 1, 1, 0]), constant, num_bins=1) == pytest.approx(0)
    assert calibration_error(label, constant, num_bins=1) == pytest.approx(0.25)


def test_labels_of_one_class_have_no_curve() -> None:
    fpr, _, area = roc(np.ones(3), np.arange(3.0))
    assert len(fpr) == 0
    assert np.isnan(area)


@settings(deadline=None)
@given(ROWS)
def test_the_area_is_sklearns(rows: list[tuple[int, int]]) -> None:
    label, score = np.array(rows, dtype=np.float64).T
    if 0 < label.sum() < len(label):
        fpr, tpr, area = roc(label, score)
        assert area == pytest.approx(roc_auc_score(label, score))
        assert (np.diff(fpr) >= 0).all()
        assert (np.diff(tpr) >= 0).all()
        assert (fpr[-1], tpr[-1]) == (1, 1)


@settings(deadline=None)
@given(ROWS, st.integers(1, 12))
def test_bins_hold_every_row_once(rows: list[tuple[int, int]], num_bins: int) -> None:
    label, score = np.array(rows, dtype=np.float64).T
    mean_score, mean_label, count = calibration(label, score, num_bins)
    assert count.sum() == len(rows)
    assert count.max() - count.min() <= 1
    assert (mean_label * count).sum() == pytest.approx(label.sum())
    assert (np.diff(mean_score) >= -1e-12).all()


def test_long_curves_are_thinned_but_keep_their_area() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(5000) < 0.4).astype(float)
    fpr, tpr, area = roc(label, label + rng.standard_normal(5000))
    assert len(fpr) <= MAX_ROC_POINTS
    assert np.trapezoid(tpr, fpr) == pytest.approx(area, abs=2e-3)
