"""The report's section on the list that is served: a table, a plot, and what knowledge is worth to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lorefuse.lists.stage_files import SERVED
from lorefuse.report.groups import group_section
from lorefuse.report.list_names import list_order, list_title
from lorefuse.report.style import GREY, blank_figure
from lorefuse.report.tables import interval_chip
from lorefuse.training.evaluation import TEMPERATURES, is_number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def metric_names(content: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the headline figures of a list: name in `lists.json` → title and subset."""
    k, recall_k = content["k"], content["recall_k"]
    names = {f"ndcg_at_{k}": f"NDCG@{k}", f"recall_at_{recall_k}": f"Recall@{recall_k}", f"mrr_at_{k}": f"MRR@{k}"}
    return {f"{name}_{subset}": (title, subset) for subset in TEMPERATURES for name, title in names.items()}


def list_section(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `lists.html.j2` shows of `lists.json`."""
    served = content["lists"][SERVED]["metrics"].values()
    return {
        "num_users": content["num_users"],
        "num_seeds": max(len(entry.get("values", ())) for entry in served),
        "columns": [f"{title}, {subset}" for title, subset in metric_names(content).values()],
        "ndcg": f"NDCG@{content['k']}",
        "rows": list_rows(content),
        "verdicts": list_verdicts(content),
        "groups": group_section(content),
    }


def list_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per list: its figures, the best of each column marked, and by how much the served one is ahead."""
    names = list(metric_names(content))
    ndcg = f"ndcg_at_{content['k']}_warm"
    best = {name: _best(content, name) for name in names}
    rows = []
    for name in list_order(content):
        entry, settings = content["lists"][name], content.get("settings", {}).get(name, "")
        cells = [_cell(entry["metrics"][metric], best[metric]) for metric in names]
        gain = content["gains"].get(name, {}).get(ndcg, {})
        rows.append(
            {
                "name": list_title(name) + (f" ({settings})" if settings else ""),
                "served": name == SERVED,
                "cells": cells,
                "coverage": f"{entry['coverage']:.1%}" if is_number(entry["coverage"]) else "–",
                "novelty": f"{entry['novelty']:.1f}" if is_number(entry["novelty"]) else "–",
                "gain": interval_chip(gain, lower=False),
            }
        )
    return rows


def _best(content: Mapping[str, Any], name: str) -> float | None:
    values = [entry["metrics"][name]["mean"] for entry in content["lists"].values()]
    known = [value for value in values if is_number(value)]
    return max(known) if known else None


def _cell(entry: Mapping[str, Any], best: float | None) -> dict[str, Any]:
    if not is_number(entry["mean"]):
        return {"text": "–", "spread": "", "title": "nobody to judge by", "best": False}
    title = f"95 % interval [{entry['low']:.4f}, {entry['high']:.4f}], {entry['num_users']:,} users"
    spread = f"{entry['std']:.4f}" if "std" in entry else ""
    return {"text": f"{entry['mean']:.4f}", "spread": spread, "title": title, "best": entry["mean"] == best}


def list_verdicts(content: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return one line a temperature: did knowledge help the list, against the same list without, and by how much?"""
    lines = []
    for temperature in TEMPERATURES:
        verdict = content.get("verdicts", {}).get(temperature)
        if verdict is None:
            continue
        gain = content["gains"]["none"][f"ndcg_at_{content['k']}_{temperature}"]
        number = ""
        if is_number(gain["mean"]):
            number = f"NDCG@{content['k']} {gain['mean']:+.4f}"
            known = is_number(gain["low"])
            number += f" [{gain['low']:+.4f}, {gain['high']:+.4f}]" if known else ", too few users for an interval"
        lines.append({"temperature": temperature, "verdict": str(verdict), "number": number})
    return lines


def list_figure(content: Mapping[str, Any]) -> Figure:
    """Plot NDCG of every list with its interval, known and new items apart."""
    import plotly.graph_objects as go

    figure = blank_figure(f"NDCG@{content['k']}", "", height=90 + 34 * len(content["lists"]))
    order = list_order(content)
    looks = {"warm": ("#D55E00", "circle", "known items"), "cold": ("#009E73", "diamond", "new items")}
    for subset, (colour, symbol, label) in looks.items():
        entries = [content["lists"][name]["metrics"][f"ndcg_at_{content['k']}_{subset}"] for name in order]
        shown = [(list_title(name), e) for name, e in zip(order, entries, strict=True) if is_number(e["mean"])]
        if not shown:
            continue
        mean = np.array([entry["mean"] for _, entry in shown])
        ends = {end: np.array([entry[end] for _, entry in shown]) for end in ("low", "high")}
        figure.add_trace(
            go.Scatter(
                x=mean.tolist(),
                y=[title for title, _ in shown],
                name=label,
                mode="markers",
                orientation="h",
                marker={"color": colour, "size": 9, "symbol": symbol},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": (ends["high"] - mean).tolist(),
                    "arrayminus": (mean - ends["low"]).tolist(),
                    "thickness": 1.5,
                    "width": 3,
                },
                hovertemplate="%{y}: %{x:.4f}<extra>%{fullData.name}</extra>",
            )
        )
    figure.update_layout(scattermode="group", scattergap=0.4)
    figure.update_xaxes(tickformat=".3f", rangemode="tozero", gridcolor=GREY, showgrid=False)
    figure.update_yaxes(autorange="reversed")
    return figure
