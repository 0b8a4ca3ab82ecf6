"""The plots of a refresh: which features moved, how the scores did, and what the largest moves look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorefuse.report.style import COLOURS, GREY, blank_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_SHOWN = 6
"""Features whose bins are drawn: those with the largest index."""
_KNOWN, _FRESH = COLOURS["real"], COLOURS["none"]


def drift_figures(drift: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """Return the figures by the names that the page asks for.

    Args:
        drift: What `compare` returns.
        metrics: `judge_rows` of the ``test`` and the ``fresh`` rows.
    """
    figures = {"features": feature_bars(drift)}
    if metrics.get("test") and metrics.get("fresh"):
        figures["metrics"] = metric_intervals(metrics)
    if drift["score"]:
        figures["score"] = shares(drift["score"], "Score")
    ranked = sorted(drift["features"], key=lambda name: -drift["features"][name]["psi"])
    for name in ranked[:MOST_SHOWN]:
        figures[f"bins/{name}"] = shares(drift["features"][name], name.replace("_", " "))
    return figures


def feature_bars(drift: Mapping[str, Any]) -> Figure:
    """Plot every feature's PSI, with the level of chance as a mark and the threshold as a line."""
    import plotly.graph_objects as go

    entries = sorted(drift["features"].items(), key=lambda pair: pair[1]["psi"])
    names = [name.replace("_", " ") for name, _ in entries]
    figure = blank_figure("Population stability index", "", height=110 + 26 * len(entries))
    figure.add_trace(
        go.Bar(
            x=[entry["psi"] for _, entry in entries],
            y=names,
            orientation="h",
            name="PSI",
            marker={"color": [_FRESH if entry["drifted"] else GREY for _, entry in entries]},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[entry["psi_by_chance"] for _, entry in entries],
            y=names,
            mode="markers",
            name="by chance",
            marker={"symbol": "line-ns-open", "size": 13, "color": _KNOWN},
            hovertemplate="%{y}: %{x:.3f} by chance<extra></extra>",
        )
    )
    figure.add_vline(x=drift["thresholds"]["psi"], line={"color": GREY, "dash": "dash", "width": 1})
    return figure


def shares(entry: Mapping[str, Any], title: str) -> Figure:
    """Plot the shares of both samples in each bin of a feature."""
    import plotly.graph_objects as go

    figure = blank_figure(title, "Share of rows", height=280)
    for name, key, colour in (("reference", "reference", _KNOWN), ("new rows", "fresh", _FRESH)):
        figure.add_trace(go.Bar(x=entry["bins"]["labels"], y=entry["bins"][key], name=name, marker={"color": colour}))
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def metric_intervals(metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Plot each metric of the test rows and of the new rows with their intervals."""
    import plotly.graph_objects as go

    names = [name for name, entry in metrics["test"].items() if entry["value"] is not None]
    figure = blank_figure("", "", height=120 + 50 * len(names))
    for label, part, colour in (("test rows", "test", _KNOWN), ("new rows", "fresh", _FRESH)):
        known = [(name, metrics[part][name]) for name in names if metrics[part][name]["value"] is not None]
        ends = [(entry["value"] if entry[end] is None else entry[end]) for _, entry in known for end in ("low", "high")]
        values = [entry["value"] for _, entry in known]
        figure.add_trace(
            go.Scatter(
                x=values,
                y=[name.upper() for name, _ in known],
                name=label,
                mode="markers",
                orientation="h",
                marker={"color": colour, "size": 9},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - value for high, value in zip(ends[1::2], values, strict=True)],
                    "arrayminus": [value - low for low, value in zip(ends[::2], values, strict=True)],
                    "thickness": 1.5,
                    "width": 3,
                },
            )
        )
    figure.update_layout(scattermode="group", scattergap=0.4)
    figure.update_yaxes(autorange="reversed")
    return figure
