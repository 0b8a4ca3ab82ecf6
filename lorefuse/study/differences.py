"""Real minus each control, on scores averaged over seeds, with intervals over users. ``T`` test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.schema import Split
from lorefuse.study.verdict import holm, p_value
from lorefuse.training.compare import compare
from lorefuse.training.row_metrics import METRICS
from lorefuse.training_set.arrays import TrainingSet


def differences(
    training_set: TrainingSet,
    scores: Mapping[Any, NDArray[np.float64]],
    masks: Mapping[str, NDArray[np.bool_]],
    num_bootstraps: int,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return by control arm and ``<metric>_<bucket>``: mean, low and high of real minus control.

    Args:
        training_set: The rows.
        scores: By arm, the mean over seeds of each test row's score, (T,).
        masks: By bucket, bool (T,).
        num_bootstraps: Resamples of users; both arms are judged on the same draw (`training.compare`).
    """
    rows = training_set.rows_of(Split.TEST)
    label, user = training_set.label[rows].astype(np.float64), training_set.user_row[rows].astype(np.int64)
    names = ("auc", "gauc", "logloss") if training_set.spec.label_kind == "binary" else ("rmse",)
    result: dict[str, dict[str, dict[str, float | None]]] = {}
    for arm in scores:
        if arm == "real":
            continue
        result[arm] = {}
        for bucket, mask in masks.items():
            for name in names:
                outcome = compare(
                    f"{name}_all",
                    label[mask],
                    scores["real"][mask],
                    scores[arm][mask],
                    user[mask],
                    np.zeros(int(mask.sum()), dtype=bool),
                    num_bootstraps=num_bootstraps,
                )
                sign = METRICS[name][1]
                low, high = sorted(sign * end for end in outcome.interval)
                values = {"mean": sign * outcome.gain, "low": low, "high": high}
                result[arm][f"{name}_{bucket}"] = {
                    key: float(value) if np.isfinite(value) else None for key, value in values.items()
                }
    return result


def mark_holm(entries: list[dict[str, Any]]) -> int:
    """Mark each difference with whether it survives Holm's correction over all comparisons, and return their number."""
    every = [
        difference
        for entry in entries
        for by_name in entry["differences"].values()
        for difference in by_name.values()
        if difference["mean"] is not None
    ]
    for difference, kept in zip(every, holm([p_value(difference) for difference in every]), strict=True):
        difference["holm"] = kept
    return len(every)
