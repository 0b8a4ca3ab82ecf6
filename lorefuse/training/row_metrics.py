"""Metrics of scored rows with row weights, and the rows they are taken over.

``R`` rows, ``U`` users.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ConfigError

Array = NDArray[np.float64]
EPSILON = 1e-7
SUBSETS = ("all", "warm", "cold")


def auc(
    label_R: Array, score_R: Array, weight_R: Array | None = None, user_R: NDArray[np.int64] | None = None
) -> float:
    """Return the area under the ROC curve with row weights; ties count half. NaN with labels of one class.

    Source: the Mann-Whitney form, Hanley & McNeil 1982.
    """
    weight_R = np.ones(len(label_R)) if weight_R is None else weight_R
    order = np.argsort(score_R, kind="stable")
    score, positive = score_R[order], (weight_R * label_R)[order]
    negative = weight_R[order] - positive
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]]) if len(score) else np.zeros(0, dtype=np.int64)
    if not len(starts) or positive.sum() <= 0 or negative.sum() <= 0:
        return float("nan")
    positive_of, negative_of = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    below = np.cumsum(negative_of) - negative_of
    return float((positive_of * (below + negative_of / 2)).sum() / (positive.sum() * negative.sum()))


def gauc(
    label_R: Array, score_R: Array, weight_R: Array | None = None, user_R: NDArray[np.int64] | None = None
) -> float:
    """Return the mean of the users' own AUCs, weighted by their number of rows; users of one class are left out.

    Source: DIN, arXiv:1706.06978, section 6.
    """
    user_R = np.zeros(len(label_R), dtype=np.int64) if user_R is None else user_R
    auc_U, rows_U = user_aucs(label_R, score_R, np.ones(len(label_R)) if weight_R is None else weight_R, user_R)
    known = np.isfinite(auc_U)
    return float((auc_U * rows_U)[known].sum() / rows_U[known].sum()) if known.any() else float("nan")


def logloss(
    label_R: Array, score_R: Array, weight_R: Array | None = None, user_R: NDArray[np.int64] | None = None
) -> float:
    """Return the mean of −log p(label); scores are clipped to [1e-7, 1 − 1e-7]."""
    return _mean(log_losses(label_R, score_R), weight_R)


def rmse(
    label_R: Array, score_R: Array, weight_R: Array | None = None, user_R: NDArray[np.int64] | None = None
) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(_mean((score_R - label_R) ** 2, weight_R)))


METRICS: dict[str, tuple[Callable[..., float], int]] = {
    "auc": (auc, 1),
    "gauc": (gauc, 1),
    "logloss": (logloss, -1),
    "rmse": (rmse, -1),
}
"""Name → function and sign; −1 where lower is better."""


def parse_metric(name: str) -> tuple[str, str]:
    """Return base and subset of a gate metric such as ``auc_warm``.

    Raises:
        ConfigError: The gate knows no such metric.
    """
    base, _, subset = name.rpartition("_")
    if base not in METRICS or subset not in SUBSETS:
        known = ", ".join(f"{b}_{s}" for b in METRICS for s in SUBSETS)
        raise ConfigError(
            "registry.gate_metric cannot be used by the gate.", expected=f"one of {known}", got=name, fix="correct it"
        )
    return base, subset


def subset_mask(cold_R: NDArray[np.bool_], subset: str) -> NDArray[np.bool_]:
    """Return the rows of ``all``, ``warm`` or ``cold``."""
    return np.ones(len(cold_R), dtype=bool) if subset == "all" else cold_R == (subset == "cold")


def user_aucs(label_R: Array, score_R: Array, weight_R: Array, user_R: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return each user's AUC (NaN where of one class) and weight, users in ascending order."""
    if not len(label_R):
        return np.zeros(0), np.zeros(0)
    order = np.lexsort((score_R, user_R))
    user, score, positive = user_R[order], score_R[order], (weight_R * label_R)[order]
    negative = weight_R[order] - positive
    new_user = np.r_[True, user[1:] != user[:-1]]
    ties = np.flatnonzero(new_user | np.r_[True, score[1:] != score[:-1]])  # runs of equal score within a user
    positive_of, negative_of = np.add.reduceat(positive, ties), np.add.reduceat(negative, ties)
    first_run = np.flatnonzero(new_user[ties])
    run_user = np.cumsum(new_user[ties]) - 1
    below = np.cumsum(negative_of) - negative_of
    below -= below[first_run][run_user]
    wins = np.add.reduceat(positive_of * (below + negative_of / 2), first_run)
    positives, negatives = np.add.reduceat(positive_of, first_run), np.add.reduceat(negative_of, first_run)
    both = (positives > 0) & (negatives > 0)
    auc_U = np.full(len(both), np.nan)
    auc_U[both] = wins[both] / (positives[both] * negatives[both])
    return auc_U, positives + negatives


def log_losses(label_R: Array, score_R: Array) -> Array:
    """Return −log p(label) of each row."""
    score_R = np.clip(score_R, EPSILON, 1 - EPSILON)
    return np.asarray(-label_R * np.log(score_R) - (1 - label_R) * np.log(1 - score_R))


def _mean(value_R: Array, weight_R: Array | None) -> float:
    weight_R = np.ones(len(value_R)) if weight_R is None else weight_R
    return float((value_R * weight_R).sum() / weight_R.sum()) if weight_R.sum() else float("nan")
