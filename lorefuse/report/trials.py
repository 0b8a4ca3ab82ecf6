"""The plot of a tuning study: which trials finished, which were pruned, and which failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lorefuse.report.style import COLOURS, GREY, blank_figure
from lorefuse.training.evaluation import by_arm, is_number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

UNFINISHED = {"PRUNED": ("pruned", "circle-open"), "FAIL": ("failed, no value", "x")}
"""State of a trial that is not complete → its name for people, and its symbol."""


def tuning(trials: Mapping[str, Any]) -> Figure | None:
    """Plot each trial's value, and the best so far, for each arm: the control had the same budget.

    Pruned trials are open circles at the value they had when they were stopped. Failed ones have no value: they are
    crosses at the foot of the plot. Neither counts as best. A record without a state is a finished trial.

    Args:
        trials: `trials.json`: records with number, value and state, by arm.

    Returns:
        The figure; None where no trial has a value.
    """
    import plotly.graph_objects as go

    figure = blank_figure("Trial", "Validation value", height=330)
    arms = by_arm(trials, "number")
    values = [entry["value"] for entries in arms.values() for entry in entries if is_number(entry.get("value"))]
    if not values:
        return None
    figure.update_xaxes(tickformat="d", dtick=max(1, max(map(len, arms.values())) // 12))
    for arm, entries in arms.items():
        colour = COLOURS.get(arm.rpartition("/")[2], GREY)
        x, y = _points(entries, "COMPLETE", None)
        if x:
            best = np.maximum.accumulate(np.array(y)).tolist()
            marker = {"color": colour, "size": 9}
            figure.add_trace(go.Scatter(x=x, y=y, name=arm, legendgroup=arm, mode="markers", marker=marker))
            line = {"color": colour, "width": 1.5, "shape": "hv"}
            name = f"{arm}, best so far"
            figure.add_trace(go.Scatter(x=x, y=best, name=name, legendgroup=arm, mode="lines", line=line))
        for state, (word, symbol) in UNFINISHED.items():
            x, y = _points(entries, state, min(values))
            if x:
                marker = {"color": colour, "size": 9, "symbol": symbol}
                name = f"{arm}, {word}"
                figure.add_trace(go.Scatter(x=x, y=y, name=name, legendgroup=arm, mode="markers", marker=marker))
    return figure


def _points(entries: Sequence[Mapping[str, Any]], state: str, foot: float | None) -> tuple[list[int], list[float]]:
    """Return numbers and values of the trials of a state; those without a value stand at `foot`, or nowhere."""
    points = []
    for entry in entries:
        value = entry["value"] if is_number(entry.get("value")) else foot
        if entry.get("state", "COMPLETE") == state and value is not None:
            points.append((entry["number"], value))
    return [number for number, _ in points], [value for _, value in points]
