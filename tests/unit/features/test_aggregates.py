"""Features by hand."""

from __future__ import annotations

import numpy as np

from lorefuse.features.aggregates import (
    interest_features,
    interest_values,
    item_features,
    item_values,
    unit_rows,
    user_features,
    user_values,
)

F = np.float32


def test_user_features() -> None:
    """Three counting rows with labels 1, 1, 0 and overall mean 0.4: (2 + 5 · 0.4) / (3 + 5) = 0.5."""
    values = user_values(F([1, 1, 0, 1]), F([5, 4, 2, 5]), np.array([True, True, True, False]))
    assert values.tolist() == [[1, 1, 5], [1, 1, 4], [1, 0, 2], [0, 0, 0]]
    features = user_features(values.sum(0, keepdims=True), 0.4)
    np.testing.assert_allclose(features, [[np.log(4), 0.5]], rtol=1e-6)
    np.testing.assert_allclose(user_features(np.zeros((1, 3)), 0.4), [[0, 0.4]], rtol=1e-6)


def test_item_features() -> None:
    """Labels 1, 0 by users of means 0.5, 0.25: residuals 0.5, −0.25; (1 + 10 · 0.4) / 12 and 0.25 / 12."""
    values = item_values(F([1, 0]), F([0.5, 0.25]), np.array([True, True]))
    features = item_features(values.sum(0, keepdims=True), 0.4)
    np.testing.assert_allclose(features, [[np.log(3), 5 / 12, 0.25 / 12]], rtol=1e-6)


def test_unit_rows() -> None:
    assert unit_rows(F([[3, 4], [0, 0]])).tolist() == F([[0.6, 0.8], [0, 0]]).tolist()


def test_interest_features() -> None:
    """Liked e1 and e2 (values 5, 4), not e1 again (value 1); κ = 2, overall value 3.

    Liked: (1, 1)/√2 · 2/(2 + 2). The user's mean value is (10 + 5 · 3)/(3 + 5) = 3.125; centred:
    ((5 + 1) − 3.125 · 2, 4 − 3.125 · 1)/(3 + 2) = (−0.05, 0.175).
    """
    values = interest_values(
        np.eye(2, dtype=F), np.array([0, 1, 0]), F([5, 4, 1]), np.array([True, True, False]), np.ones(3, bool)
    )
    liked, centred = interest_features(values.sum(0, keepdims=True), 3.0, 2.0)
    np.testing.assert_allclose(liked, [[0.5 / np.sqrt(2)] * 2], rtol=1e-6)
    np.testing.assert_allclose(centred, [[-0.05, 0.175]], rtol=1e-5)
    assert liked.dtype == centred.dtype == F


def test_no_history_no_shrinkage_no_vector() -> None:
    """Zeros, never a division by zero: nothing known with κ = 0, and a liked item without a vector."""
    for sums in (np.zeros((1, 9)), np.array([[0, 0, 0, 0, 0, 0, 1, 5, 1.0]])):
        for side in interest_features(sums, 3.0, 0.0):
            assert side.tolist() == [[0, 0]]
