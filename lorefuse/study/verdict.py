"""From intervals to words, with the number of comparisons in mind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lorefuse.report.figures import metric_title

LOWER_IS_BETTER = ("logloss", "rmse")
CONTROLS = {"categories": "the item's categories", "shuffled": "shuffled knowledge", "random": "random vectors"}
WORDS = {1: "helped", -1: "hurt", 0: "no evidence"}


def direction(difference: Mapping[str, float | None], metric: str) -> int:
    """Return 1 where the 95 % interval of real minus control says better, −1 worse, 0 neither.

    Args:
        difference: low and high of real minus control; null where undefined.
        metric: Its name; for a loss the signs turn.
    """
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None:
        return 0
    sign = (low > 0) - (high < 0)
    return -sign if metric in LOWER_IS_BETTER else sign


def p_value(difference: Mapping[str, float | None]) -> float:
    """Return a two-sided p-value read off a 95 % bootstrap interval, as if it were normal; 1 where undefined.

    Good enough to order comparisons for Holm's procedure; the intervals themselves decide the verdicts.
    """
    mean, low, high = (difference.get(name) for name in ("mean", "low", "high"))
    if mean is None or low is None or high is None:
        return 1.0
    width = (high - low) / (2 * 1.959964)
    return math.erfc(abs(mean) / width / math.sqrt(2)) if width > 0 else float(mean == 0)


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Return which comparisons stay significant when all of them are considered.

    Source: Holm, Scandinavian Journal of Statistics 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [True, False, False]
    """
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    kept = [False] * len(p_values)
    for rank, number in enumerate(order):
        if p_values[number] > level / (len(p_values) - rank):
            break
        kept[number] = True
    return kept


def bucket_verdict(differences: Mapping[str, Any], bucket: str, metric: str) -> str:
    """Say in one sentence what knowledge did in a bucket, and whether it was the knowledge.

    Args:
        differences: By control arm, then by ``<metric>_<bucket>``: mean, low, high of real minus control.
        bucket: e.g. ``cold_item``.
        metric: What decides, e.g. ``auc``.
    """
    name = f"{metric}_{bucket}"
    against_none = differences.get("none", {}).get(name)
    if against_none is None or against_none.get("mean") is None:
        return "cannot be computed: too few rows"
    if against_none.get("low") is None:
        return f"no verdict: too few users for {metric_title(metric)} {against_none['mean']:+.4f} to mean anything"
    word = WORDS[direction(against_none, metric)]
    interval = f"[{against_none['low']:+.4f}, {against_none['high']:+.4f}]"
    text = f"{word}: {metric_title(metric)} {against_none['mean']:+.4f} {interval} against no knowledge"
    for control, meaning in CONTROLS.items():
        entry = differences.get(control, {}).get(name)
        if entry is not None and entry.get("low") is not None:
            sign = direction(entry, metric)
            text += f"; {'better than' if sign > 0 else 'worse than' if sign < 0 else 'not told apart from'} {meaning}"
    return text
