"""Whether a model still ranks new rows as well as it ranked its test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config.drift import DriftConfig
from lorefuse.training.evaluation import is_number
from lorefuse.training.row_metrics import METRICS

Metrics = dict[str, dict[str, float | None]]


def judge_rows(
    label_R: NDArray[np.floating],
    score_R: NDArray[np.floating],
    user_R: NDArray[np.integer],
    label_kind: str,
    config: DriftConfig,
) -> Metrics:
    """Return AUC, GAUC and logloss of scored rows (binary) or RMSE, each with an interval; None where undefined.

    Args:
        label_R: Labels.
        score_R: The model's scores.
        user_R: Row of the user table.
        label_kind: ``binary`` or ``regression``.
        config: `num_bootstraps` resamples of users; the interval leaves out `alpha` on each side.

    Returns:
        By metric: value, low, high.
    """
    label, score = label_R.astype(np.float64), score_R.astype(np.float64)
    _, user = np.unique(user_R, return_inverse=True)
    num_users = int(user.max()) + 1 if len(user) else 0
    random = np.random.default_rng(config.seed)
    weights = [
        np.bincount(random.integers(num_users, size=num_users), minlength=num_users)[user].astype(np.float64)
        for _ in range(config.num_bootstraps if num_users else 0)
    ]
    found: Metrics = {}
    for name in ("auc", "gauc", "logloss") if label_kind == "binary" else ("rmse",):
        metric = METRICS[name][0]
        value = metric(label, score, None, user)
        drawn = np.array([metric(label, score, weight, user) for weight in weights])
        drawn = drawn[np.isfinite(drawn)]
        ends = np.quantile(drawn, [config.alpha, 1 - config.alpha]).tolist() if len(drawn) else [None, None]
        found[name] = {"value": value if is_number(value) else None, "low": ends[0], "high": ends[1]}
    return found


def decay(
    test: Mapping[str, Mapping[str, Any]], fresh: Mapping[str, Mapping[str, Any]], config: DriftConfig
) -> list[str]:
    """Return in words which metrics have fallen too far; nothing where the model holds.

    A fall counts where it is larger than allowed and the test value lies outside of the fresh rows' interval.

    Args:
        test: Metrics of the model's test rows, as `judge_rows` gives them.
        fresh: Of the new rows.
        config: The largest falls that are let pass.
    """
    reasons = []
    for name, limit in (("auc", config.max_auc_drop), ("gauc", config.max_gauc_drop)):
        before, now = _value(test, name), _value(fresh, name)
        high = fresh.get(name, {}).get("high")
        if before is not None and now is not None and before - now > limit and (high is None or before > high):
            reasons.append(f"{name.upper()} fell from {before:.4f} to {now:.4f}, by more than {limit:g}")
    before, now, low = _value(test, "rmse"), _value(fresh, "rmse"), fresh.get("rmse", {}).get("low")
    risen = before is not None and now is not None and now > before * (1 + config.max_rmse_rise)
    if risen and (low is None or before < low):
        reasons.append(f"RMSE rose from {before:.4f} to {now:.4f}, by more than {config.max_rmse_rise:.0%}")
    return reasons


def _value(metrics: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    value: float | None = metrics.get(name, {}).get("value")
    return value
