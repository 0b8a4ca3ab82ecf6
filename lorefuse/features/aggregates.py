"""What is summed about users and items, and the features made of the sums. Add a feature here, nowhere else.

Suffixes: ``R`` rows, ``N`` items, ``E`` vector dim.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

USER_NUMERIC = ("user_log_count", "user_mean_label")
ITEM_NUMERIC = ("item_log_count", "item_mean_label", "item_mean_residual", "item_prior")
USER_SHRINKAGE = 5.0
ITEM_SHRINKAGE = 10.0
"""Pseudo-rows at the overall mean in a user's or an item's mean."""


def user_values(
    label_R: NDArray[np.float32], value_R: NDArray[np.float32], counts_R: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return what is summed for a user's scalars, (R, 3): a one, label and value; zeros where a row may not count."""
    return np.stack([counts_R, label_R * counts_R, value_R * counts_R], axis=1).astype(np.float64)


def user_features(sums_R3: NDArray[np.float64], overall_mean: float) -> NDArray[np.float32]:
    """Turn sums of `user_values` into log1p(count) and the mean label, shrunk to the overall train mean: (R, 2)."""
    mean = shrunk_mean(sums_R3[:, 1], sums_R3[:, 0], overall_mean, USER_SHRINKAGE)
    return np.stack([np.log1p(sums_R3[:, 0]), mean], axis=1).astype(np.float32)


def item_values(
    label_R: NDArray[np.float32], user_mean_R: NDArray[np.floating], counts_R: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return what is summed for an item's scalars, (R, 3): a one, the label, and the label less its user's mean so far.

    The last says how an item is liked by people as generous as they are; it is less confounded than the plain mean.
    """
    return np.stack([counts_R, label_R * counts_R, (label_R - user_mean_R) * counts_R], axis=1).astype(np.float64)


def item_features(sums_R3: NDArray[np.float64], overall_mean: float) -> NDArray[np.float32]:
    """Turn sums of `item_values` into log1p(count), the shrunk mean label and the shrunk mean residual: (R, 3)."""
    count = sums_R3[:, 0]
    mean = shrunk_mean(sums_R3[:, 1], count, overall_mean, ITEM_SHRINKAGE)
    residual = shrunk_mean(sums_R3[:, 2], count, 0.0, ITEM_SHRINKAGE)
    return np.stack([np.log1p(count), mean, residual], axis=1).astype(np.float32)


def shrunk_mean(
    total: NDArray[np.float64], count: NDArray[np.float64], overall_mean: float, shrinkage: float
) -> NDArray[np.float64]:
    """Return (total + κ · overall mean) / (count + κ)."""
    mean: NDArray[np.float64] = (total + shrinkage * overall_mean) / (count + shrinkage)
    return mean


def unit_rows(vectors_NE: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale rows to unit length; a row of zeros stays zeros."""
    length = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors_NE / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


def interest_values(
    unit_NE: NDArray[np.float32],
    item_row_R: NDArray[np.integer],
    value_R: NDArray[np.float32],
    liked_R: NDArray[np.bool_],
    counts_R: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return what is summed for a user's interest vectors, (R, 3E + 3).

    The item's unit vector three times, weighted by one, by the value and by whether it was liked; then a one, the value
    and the like. A row that may not count is all zeros.

    Args:
        unit_NE: Unit vectors; a row of zeros (no text, no entity) adds nothing to the vectors.
        item_row_R: The row's item.
        value_R: Rating or event value.
        liked_R: Rows that count as liked.
        counts_R: Train rows.
    """
    weights = np.stack([counts_R, value_R * counts_R, liked_R & counts_R], axis=1).astype(np.float64)
    vectors = unit_NE[item_row_R]
    return np.concatenate([*(vectors * weights[:, n : n + 1] for n in range(3)), weights], axis=1)


def interest_features(
    sums_RV: NDArray[np.float64], overall_value: float, shrinkage: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn sums of `interest_values` into the user's two sides of an interest scalar, (R, E) each.

    * liked: the sum of the liked items' unit vectors, scaled to unit length, times n⁺ / (n⁺ + κ). Its dot product with
      an item's unit vector is a cosine that a short history holds back.
    * centred: Σ (value − the user's mean value) · unit vector / (n + κ): what the user rates above or below their mean.

    Args:
        sums_RV: Running sums.
        overall_value: Mean value of the train rows, to which a user's mean is shrunk.
        shrinkage: κ.
    """
    dim = (sums_RV.shape[1] - 3) // 3
    plain, valued, liked = (sums_RV[:, n * dim : (n + 1) * dim] for n in range(3))
    count, value, num_liked = (sums_RV[:, 3 * dim + n : 3 * dim + n + 1] for n in range(3))
    length = np.linalg.norm(liked, axis=1, keepdims=True)
    unit = np.divide(liked, length, out=np.zeros_like(liked), where=length > 1e-9)
    held_back = unit * num_liked / np.maximum(num_liked + shrinkage, 1e-12)
    mean = shrunk_mean(value, count, overall_value, USER_SHRINKAGE)
    centred = (valued - mean * plain) / np.maximum(count + shrinkage, 1e-12)
    return held_back.astype(np.float32), centred.astype(np.float32)
