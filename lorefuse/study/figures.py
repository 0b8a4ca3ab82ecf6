"""A study's plots: what knowledge gained in each bucket, and how the variants stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorefuse.report.figures import SYMBOLS, learning
from lorefuse.report.style import COLOURS, GREY, blank_figure
from lorefuse.report.trials import tuning
from lorefuse.study.buckets import BUCKETS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def study_figures(content: Mapping[str, Any]) -> dict[str, dict[str, Figure]]:
    """Return by variant the plots of its gains, learning and tuning; and under ``""`` the overview.

    Args:
        content: `study.json`.
    """
    metric = "auc" if content["label_kind"] == "binary" else "rmse"
    figures: dict[str, dict[str, Any]] = {"": {"overview": overview(content, metric)}}
    for entry in content["variants"]:
        tasks = {f"{entry['name']}/{arm}": trials for arm, trials in entry["trials"].items()}
        made = {
            "gains": gains(entry, metric),
            "learning": learning({f"{entry['name']}/{arm}": epochs for arm, epochs in entry["history"].items()}),
            "tuning": tuning(tasks),
        }
        figures[entry["name"]] = {name: figure for name, figure in made.items() if figure is not None}
    return figures


def gains(entry: Mapping[str, Any], metric: str) -> Figure:
    """Plot real minus each control by bucket, with intervals: right of zero is better (for a loss: left)."""
    import plotly.graph_objects as go

    figure = blank_figure(f"{metric.upper()}, real knowledge minus the control", "", height=420)
    for arm, by_name in entry["differences"].items():
        known = [(bucket, by_name[f"{metric}_{bucket}"]) for bucket in BUCKETS]
        known = [(bucket, gap) for bucket, gap in known if gap["mean"] is not None and gap["low"] is not None]
        figure.add_trace(
            go.Scatter(
                x=[gap["mean"] for _, gap in known],
                y=[bucket.replace("_", " ") for bucket, _ in known],
                name=f"against {arm}",
                mode="markers",
                orientation="h",
                marker={"color": COLOURS.get(arm, GREY), "size": 9, "symbol": SYMBOLS.get(arm, "circle")},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [gap["high"] - gap["mean"] for _, gap in known],
                    "arrayminus": [gap["mean"] - gap["low"] for _, gap in known],
                    "thickness": 1.5,
                    "width": 3,
                },
            )
        )
    figure.add_vline(x=0, line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_layout(scattermode="group", scattergap=0.35)
    figure.update_xaxes(tickformat="+.3f")
    figure.update_yaxes(autorange="reversed")
    return figure


def overview(content: Mapping[str, Any], metric: str) -> Figure:
    """Plot each variant's warm and cold metric, mean and deviation over seeds, with and without knowledge."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    from lorefuse.report.style import style

    buckets = ("warm", "cold_item")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, subplot_titles=[b.replace("_", " ") for b in buckets])
    style(figure, height=180 + 34 * len(content["variants"]))
    figure.update_layout(legend={"yref": "container", "y": 0.99, "yanchor": "top"}, margin={"t": 80})
    names = [entry["name"] for entry in content["variants"]]
    for arm in content["arms"]:
        for column, bucket in enumerate(buckets, start=1):
            spread = [entry["arms"][arm][f"{metric}_{bucket}"] for entry in content["variants"]]
            deviation = [one["std"] or 0.0 for one in spread]
            figure.add_trace(
                go.Scatter(
                    x=[one["mean"] for one in spread],
                    y=names,
                    error_x={"type": "data", "array": deviation, "thickness": 1.5, "width": 3},
                    name=arm,
                    legendgroup=arm,
                    showlegend=column == 1,
                    mode="markers",
                    orientation="h",
                    marker={"color": COLOURS.get(arm, GREY), "size": 9, "symbol": SYMBOLS.get(arm, "circle")},
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text=metric.upper())
    figure.update_yaxes(autorange="reversed")
    return figure
