"""The report's plots, as plotly figures: transparent, so that the page's light or dark ground shows through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from lorefuse.report.curves import calibration, calibration_error, roc
from lorefuse.report.style import COLOURS, GREY, blank_figure, style
from lorefuse.report.trials import tuning
from lorefuse.training.evaluation import TEMPERATURES, by_arm, is_number

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

SYMBOLS = {"none": "circle", "shuffled": "square", "random": "diamond", "text_only": "triangle-up", "graph_only": "x"}
SUBSET_COLOURS = {"all": "#0072B2", "warm": "#D55E00", "cold": "#009E73"}


def metric_title(metric: str) -> str:
    """Return a metric's name for people: ``ndcg_at_10`` → ``NDCG@10``."""
    known = {"auc": "AUC", "gauc": "GAUC", "logloss": "Log loss", "rmse": "RMSE", "mae": "MAE"}
    return known.get(metric) or metric.upper().replace("_AT_", "@").replace("RECALL", "Recall")


def arm_order(arms: Iterable[str]) -> list[str]:
    """Return arms as people read them: real knowledge first, then none, then the other controls."""
    known = list(COLOURS)
    return sorted(arms, key=lambda arm: (known.index(arm) if arm in known else len(known), arm))


def metric_order(metrics: Iterable[str]) -> list[str]:
    """Return metrics in reading order, each once; JSON files are sorted by name."""
    known = ["auc", "gauc", "logloss", "rmse", "mae"]
    return sorted(set(metrics), key=lambda metric: (known.index(metric) if metric in known else len(known), metric))


def lower_is_better(metric: str) -> bool:
    """Return whether a smaller value of a metric is the better one."""
    return metric in ("logloss", "rmse", "mae")


def build_figures(
    metrics: Mapping[str, Any], history: Mapping[str, Any], trials: Mapping[str, Any], scores: pd.DataFrame
) -> dict[str, Figure]:
    """Return all plots by name; those without data are left out.

    Args:
        metrics: `metrics.json`.
        history: `history.json`.
        trials: `trials.json`.
        scores: `user_scores.parquet`.
    """
    figures = {f"differences_{split}": differences(content) for split, content in metrics["splits"].items()}
    figures |= {"learning": learning(history), "tuning": tuning(trials)}
    if metrics.get("label_kind", "binary") == "binary":
        figures["roc"] = roc_curve(scores)
    figures |= {"calibration": calibration_curve(scores), "scores": score_distribution(scores)}
    return {name: figure for name, figure in figures.items() if figure is not None}


def differences(content: Mapping[str, Any]) -> Figure | None:
    """Plot what real knowledge gains over each control, with its interval; right of zero is better."""
    import plotly.graph_objects as go

    figure = blank_figure("Gain of real knowledge over the control", "", height=420)
    for arm in arm_order(content.get("differences", {})):
        entries, rows = content["differences"][arm], []
        for metric, subset in product(metric_order(name.rpartition("_")[0] for name in entries), TEMPERATURES):
            entry = entries.get(f"{metric}_{subset}", {})
            if all(is_number(entry.get(key)) for key in ("mean", "low", "high")):
                sign = -1 if lower_is_better(metric) else 1
                low, high = sorted((sign * entry["low"], sign * entry["high"]))
                label = f"{metric_title(metric)}, {subset}" + (" (sign turned)" if sign < 0 else "")
                rows.append((label, sign * entry["mean"], low, high))
        if rows:
            labels, mean, low, high = (np.array(column) for column in zip(*rows, strict=True))
            figure.add_trace(
                go.Scatter(
                    x=mean.tolist(),
                    y=labels.tolist(),
                    name=f"against {arm}",
                    mode="markers",
                    orientation="h",
                    marker={"color": COLOURS.get(arm, GREY), "size": 8, "symbol": SYMBOLS.get(arm, "circle")},
                    error_x={
                        "type": "data",
                        "symmetric": False,
                        "array": (high - mean).tolist(),
                        "arrayminus": (mean - low).tolist(),
                        "thickness": 1.5,
                        "width": 3,
                    },
                    hovertemplate="%{y}: %{x:+.4f}<extra>%{fullData.name}</extra>",
                )
            )
    if not figure.data:
        return None
    figure.add_vline(x=0, line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_layout(scattermode="group", scattergap=0.35)
    figure.update_xaxes(tickformat="+.3f")
    figure.update_yaxes(autorange="reversed")
    return figure


def learning(history: Mapping[str, Any]) -> Figure | None:
    """Plot train loss and validation metrics by epoch, one panel a quantity, one line an arm."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    arms = by_arm(history, "epoch")
    names = list(dict.fromkeys(name for epochs in arms.values() for entry in epochs for name in entry))
    names = [name for name in names if name == "train_loss" or name.startswith("validation")][:3]
    if not names:
        return None
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=[_panel(name) for name in names])
    style(figure, height=340)
    figure.update_layout(legend={"y": 1.18}, margin={"t": 80})
    for arm in arm_order(arms):
        epochs = arms[arm]
        for column, name in enumerate(names, start=1):
            points = [(entry["epoch"], entry[name]) for entry in epochs if is_number(entry.get(name))]
            line = {"color": COLOURS.get(arm.rpartition("/")[2], GREY), "width": 2}
            figure.add_trace(
                go.Scatter(
                    x=[point[0] for point in points],
                    y=[point[1] for point in points],
                    name=arm,
                    legendgroup=arm,
                    showlegend=column == 1,
                    mode="lines+markers",
                    line=line,
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="epoch")
    return figure


def roc_curve(scores: pd.DataFrame) -> Figure | None:
    """Plot the ROC curve of the registered model on test rows: all, warm and cold items."""
    import plotly.graph_objects as go

    figure = blank_figure("False positive rate", "True positive rate", height=380)
    for subset, rows in _subsets(scores).items():
        fpr, tpr, area = roc(rows["label"].to_numpy(np.float64), rows["score"].to_numpy(np.float64))
        if len(fpr):
            line = {"color": SUBSET_COLOURS[subset], "width": 2}
            name = f"{subset}: AUC {area:.3f}"
            figure.add_trace(go.Scatter(x=fpr.tolist(), y=tpr.tolist(), name=name, mode="lines", line=line))
    if not figure.data:
        return None
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": GREY, "dash": "dash", "width": 1})
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(range=[0, 1.01])
    return figure


def calibration_curve(scores: pd.DataFrame) -> Figure | None:
    """Plot mean label against mean score of ten bins of equal size: on the diagonal is calibrated."""
    import plotly.graph_objects as go

    figure = blank_figure("Mean score of the bin", "Mean label of the bin", height=380)
    low, high = float(scores["score"].min()), float(scores["score"].max())
    for subset, rows in _subsets(scores).items():
        label, score = rows["label"].to_numpy(np.float64), rows["score"].to_numpy(np.float64)
        x, y, count = calibration(label, score)
        line = {"color": SUBSET_COLOURS[subset], "width": 2}
        name = f"{subset}: ECE {calibration_error(label, score):.3f}"
        figure.add_trace(
            go.Scatter(
                x=x.tolist(), y=y.tolist(), customdata=count.tolist(), name=name, mode="lines+markers", line=line,
                hovertemplate="score %{x:.3f}, label %{y:.3f}, %{customdata} rows<extra></extra>",
            )
        )  # fmt: skip
    figure.add_shape(type="line", x0=low, y0=low, x1=high, y1=high, line={"color": GREY, "dash": "dash", "width": 1})
    return figure


def score_distribution(scores: pd.DataFrame) -> Figure | None:
    """Plot how scores are distributed: by label where it is 0 or 1, else all together."""
    import plotly.graph_objects as go

    figure = blank_figure("Score", "Share of rows in %", height=380)
    score = scores["score"].to_numpy(np.float64)
    edges = np.linspace(score.min(), score.max() + 1e-9, 31)
    label = scores["label"].to_numpy()
    binary = set(np.unique(label)) <= {0.0, 1.0}
    parts = {"liked": label == 1, "not liked": label == 0} if binary else {"all": np.ones(len(label), dtype=bool)}
    for (name, rows), colour in zip(parts.items(), ("#0072B2", "#D55E00"), strict=False):
        if rows.any():
            share = np.histogram(score[rows], edges)[0] / rows.sum() * 100
            x = ((edges[1:] + edges[:-1]) / 2).tolist()
            figure.add_trace(
                go.Bar(x=x, y=share.tolist(), name=name, marker={"color": colour, "line": {"width": 0}}, opacity=0.6)
            )
    figure.update_layout(barmode="overlay", bargap=0)
    return figure


def _subsets(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    parts = {"all": scores, "warm": scores[~scores["cold"]], "cold": scores[scores["cold"]]}
    return {name: rows for name, rows in parts.items() if len(rows)}


def _panel(name: str) -> str:
    kind, _, metric = name.partition("_")
    return f"{kind} {metric_title(metric) if metric in ('auc', 'gauc') else metric.replace('_', ' ')}"
