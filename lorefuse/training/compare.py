"""Is a new model worse than the old one on the same rows? A paired bootstrap over users.

``R`` rows, ``U`` users, ``S`` resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorefuse.training.row_metrics import (
    METRICS,
    Array,
    log_losses,
    parse_metric,
    subset_mask,
    user_aucs,
)

MIN_USERS = 6
"""Fewer prove nothing at 95 %: were knowledge worth nothing, all of five would still gain, or all lose, once in 16
times. A resample of one user has no spread at all."""


@dataclass(frozen=True)
class Comparison:
    """New minus old on the rows of one subset.

    Attributes:
        new: The metric of the new model.
        old: The metric of the old model.
        gain: How much better the new one is: new − old, or old − new where lower is better.
        low: 2.5 % quantile of the gain over resamples of users.
        high: 97.5 % quantile; below 0 means significantly worse.
        num_users: Users in the subset.
    """

    new: float
    old: float
    gain: float
    low: float
    high: float
    num_users: int

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends; NaN where fewer than `MIN_USERS` users would have to prove something."""
        return (self.low, self.high) if self.num_users >= MIN_USERS else (float("nan"), float("nan"))


OfDraw = Callable[[Array], float]
"""Metric of a resample, given how often each user was drawn, (U,)."""


def _resampled_auc(label_R: Array, score_R: Array, user_R: NDArray[np.int64]) -> OfDraw:
    """Sort once; then each draw is a running sum of negatives, looked up below and up to every positive."""
    order = np.argsort(score_R, kind="stable")
    label, score, user = label_R[order], score_R[order], user_R[order]
    positive, negative = np.flatnonzero(label != 0), np.flatnonzero(label != 1)
    user_of_positive, user_of_negative = user[positive], user[negative]
    below = np.searchsorted(score[negative], score[positive], side="left")
    up_to = np.searchsorted(score[negative], score[positive], side="right")  # ties count half
    plus, minus = label[positive], 1 - label[negative]

    def of_draw(times_U: Array) -> float:
        positive_weight = times_U[user_of_positive] * plus
        running = np.concatenate([[0.0], np.cumsum(times_U[user_of_negative] * minus)])
        total = positive_weight.sum() * running[-1]
        wins = positive_weight @ (running[below] + running[up_to]) / 2
        return float(wins / total) if total > 0 else float("nan")

    return of_draw


def _resampled_gauc(label_R: Array, score_R: Array, user_R: NDArray[np.int64]) -> OfDraw:
    """Users are drawn whole, so no user's own AUC changes: only how often it counts."""
    auc_U, rows_U = user_aucs(label_R, score_R, np.ones(len(label_R)), user_R)
    known = np.isfinite(auc_U)
    value_U, rows_U = np.where(known, auc_U, 0.0) * rows_U, np.where(known, rows_U, 0.0)

    def of_draw(times_U: Array) -> float:
        total = times_U @ rows_U
        return float(times_U @ value_U / total) if total > 0 else float("nan")

    return of_draw


def _resampled_mean(loss_R: Array, user_R: NDArray[np.int64]) -> OfDraw:
    sum_U, rows_U = np.bincount(user_R, loss_R), np.bincount(user_R).astype(np.float64)
    return lambda times_U: float(times_U @ sum_U / (times_U @ rows_U))


def _resampled_rmse(label_R: Array, score_R: Array, user_R: NDArray[np.int64]) -> OfDraw:
    mean_square = _resampled_mean((score_R - label_R) ** 2, user_R)
    return lambda times_U: float(np.sqrt(mean_square(times_U)))


RESAMPLED: dict[str, Callable[[Array, Array, NDArray[np.int64]], OfDraw]] = {
    "auc": _resampled_auc,
    "gauc": _resampled_gauc,
    "logloss": lambda label_R, score_R, user_R: _resampled_mean(log_losses(label_R, score_R), user_R),
    "rmse": _resampled_rmse,
}
"""Name → what is prepared once a model, so that a resample costs little; users are coded 0 … U − 1."""


def compare(
    metric: str,
    label_R: Array,
    new_R: Array,
    old_R: Array,
    user_R: NDArray[np.int64],
    cold_R: NDArray[np.bool_],
    *,
    num_bootstraps: int,
    seed: int = 0,
) -> Comparison:
    """Compare two models' scores of the same rows.

    Users are drawn with replacement, whole, and both models are judged on the same draw: rows of one user are not
    independent, and what both models find hard cancels out.

    Args:
        metric: e.g. ``auc_warm``.
        label_R: 0/1, or the value.
        new_R: The new model's scores.
        old_R: The old model's scores.
        user_R: The row's user.
        cold_R: Rows whose item had no train row.
        num_bootstraps: Resamples S.
        seed: Of the resampling.

    Returns:
        The gain with its 95 % interval; NaN where the subset is empty or of one class.

    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval), with users as the unit.
    """
    base, subset = parse_metric(metric)
    function, sign = METRICS[base]
    keep = subset_mask(cold_R, subset)
    label, new, old = label_R[keep], new_R[keep], old_R[keep]
    users, user = np.unique(user_R[keep], return_inverse=True)
    if not len(users):
        return Comparison(*(float("nan"),) * 5, num_users=0)
    value_new, value_old = function(label, new, None, user), function(label, old, None, user)
    of_draw_new, of_draw_old = (RESAMPLED[base](label, scores, user) for scores in (new, old))
    rng = np.random.default_rng(seed)
    gains_S = np.empty(num_bootstraps)
    for draw in range(num_bootstraps):
        times_U = rng.multinomial(len(users), np.full(len(users), 1 / len(users))).astype(np.float64)
        gains_S[draw] = sign * (of_draw_new(times_U) - of_draw_old(times_U))
    gains_S = gains_S[np.isfinite(gains_S)]
    low, high = np.quantile(gains_S, [0.025, 0.975]) if len(gains_S) else (np.nan, np.nan)
    return Comparison(value_new, value_old, sign * (value_new - value_old), float(low), float(high), len(users))
