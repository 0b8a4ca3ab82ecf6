"""The report's section on groups: how well groups of users are served, and how popular what is shown is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorefuse.lists.stage_files import SERVED
from lorefuse.report.list_names import list_order, list_title
from lorefuse.report.style import GREY, blank_figure
from lorefuse.report.tables import interval_chip
from lorefuse.training.evaluation import is_number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ITEM_GROUPS = {
    "head": ("head", "#0072B2"),
    "torso": ("torso", "#56B4E9"),
    "tail": ("tail", "#E69F00"),
    "new": ("no likes yet", "#009E73"),
}
"""Groups of items by popularity, their titles and colours."""
CONSUMED = "had liked"


def group_section(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what `groups.html.j2` shows of `lists.json`; None of a file without groups."""
    groups = content.get("groups")
    if groups is None:
        return None
    return {
        "ndcg": f"NDCG@{content['k']}",
        "recall": f"Recall@{content['recall_k']}",
        "k": content["k"],
        "item_groups": [{"name": ITEM_GROUPS[name][0], "num_items": groups["num_items"][name]} for name in ITEM_GROUPS],
        "items": item_rows(content),
        "columns": [
            {"name": name.replace("_", " "), "rows": [_user_row(row) for row in rows]}
            for name, rows in groups["users"].items()
        ],
    }


def group_sentences(content: Mapping[str, Any]) -> list[str]:
    """Return what `lorefuse lists` says of groups: what is shown, and which groups are served less well than others."""
    groups = content.get("groups")
    if groups is None:
        return []
    rows = [(title, groups["items"][SERVED][name]) for name, (title, _) in ITEM_GROUPS.items()]
    shares = [
        f"{title} {_share(row['exposure'])['text']} ({_share(row['consumption'])['text']})" for title, row in rows
    ]
    worse = [
        f"{column.replace('_', ' ')} {row['name']} ({interval_chip(row['ndcg_minus_rest'], lower=False)['text']})"  # type: ignore[index]
        for column, rows in groups["users"].items()
        for row in rows
        if is_number(row["ndcg_minus_rest"]["high"]) and row["ndcg_minus_rest"]["high"] < 0
    ]
    texts = [f"Shown, and in brackets what users had liked: {', '.join(shares)}"]
    if worse:
        texts.append(f"NDCG@{content['k']} below that of all others, beyond the interval: {', '.join(worse)}")
    return texts


def item_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per list: exposure of each group of items, and that of the list minus what users had liked."""
    groups = content["groups"]["items"]
    served = groups[SERVED]
    rows: list[dict[str, Any]] = [
        {"name": CONSUMED, "cells": [_share(served[name]["consumption"]) for name in ITEM_GROUPS], "chips": []}
    ]
    for name in list_order(content):
        if name in groups:
            cells = [_share(groups[name][group]["exposure"]) for group in ITEM_GROUPS]
            # More or less of a group is no virtue by itself: the chip has no colour.
            chips = [interval_chip(groups[name][group]["difference"], lower=False) for group in ITEM_GROUPS]
            texts = [chip["text"] if chip else "" for chip in chips]
            rows.append({"name": list_title(name), "cells": cells, "chips": texts})
    return rows


def _user_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "num_users": row["num_users"],
        "ndcg": _figure(row["ndcg"]),
        "ndcg_chip": interval_chip(row["ndcg_minus_rest"], lower=False),
        "recall": _figure(row["recall"]),
        "recall_chip": interval_chip(row["recall_minus_rest"], lower=False),
        "shares": [(_share(row[f"exposure_{name}"]), _share(row[f"consumption_{name}"])) for name in ITEM_GROUPS],
    }


def _figure(entry: Mapping[str, Any]) -> dict[str, str]:
    if not is_number(entry["mean"]):
        return {"text": "–", "title": "nobody to judge by"}
    known = is_number(entry["low"])
    title = f"95 % interval [{entry['low']:.4f}, {entry['high']:.4f}]" if known else "too few users for an interval"
    return {"text": f"{entry['mean']:.4f}", "title": title}


def _share(entry: Mapping[str, Any]) -> dict[str, str]:
    if not is_number(entry["mean"]):
        return {"text": "–", "title": "nobody to judge by"}
    known = is_number(entry["low"])
    title = f"95 % interval [{entry['low']:.1%}, {entry['high']:.1%}]" if known else "too few users for an interval"
    return {"text": f"{entry['mean']:.1%}", "title": title}


def exposure_figure(content: Mapping[str, Any]) -> Figure:
    """Plot what users had liked, and what each list shows, as bars of head, torso, tail and new items."""
    import plotly.graph_objects as go

    groups = content["groups"]["items"]
    names = [name for name in list_order(content) if name in groups]
    figure = blank_figure("share", "", height=110 + 34 * (len(names) + 1))
    for group, (title, colour) in ITEM_GROUPS.items():
        entries = [groups[SERVED][group]["consumption"], *(groups[name][group]["exposure"] for name in names)]
        means = [entry["mean"] if is_number(entry["mean"]) else 0.0 for entry in entries]
        figure.add_trace(
            go.Bar(
                x=means,
                y=[CONSUMED, *map(list_title, names)],
                name=title,
                orientation="h",
                marker={"color": colour},
                hovertemplate="%{y}: %{x:.1%}<extra>%{fullData.name}</extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.3, legend_traceorder="normal")
    figure.update_xaxes(tickformat=".0%", range=[0, 1], showgrid=False)
    figure.update_yaxes(autorange="reversed")
    return figure


def user_figure(content: Mapping[str, Any]) -> Figure:
    """Plot NDCG of the served list by group of users, with intervals; the dotted line is all users."""
    import plotly.graph_objects as go

    columns = content["groups"]["users"]
    num_rows = sum(map(len, columns.values()))
    figure = blank_figure(f"NDCG@{content['k']}", "", height=120 + 24 * num_rows)
    for column, rows in columns.items():
        known = [row for row in rows if is_number(row["ndcg"]["mean"])]
        entries = [row["ndcg"] for row in known]
        ends = {
            end: [abs(e[end] - e["mean"]) if is_number(e[end]) else 0.0 for e in entries] for end in ("low", "high")
        }
        figure.add_trace(
            go.Scatter(
                x=[entry["mean"] for entry in entries],
                y=[[column.replace("_", " ")] * len(known), [row["name"] for row in known]],
                name=column.replace("_", " "),
                mode="markers",
                orientation="h",
                marker={"color": "#0072B2", "size": 8},
                customdata=[row["num_users"] for row in known],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": ends["high"],
                    "arrayminus": ends["low"],
                    "width": 3,
                },
                hovertemplate="%{y}: %{x:.4f}, %{customdata} users<extra></extra>",
                showlegend=False,
            )
        )
    mean = content["lists"][SERVED]["metrics"][f"ndcg_at_{content['k']}_all"]["mean"]
    if is_number(mean):
        figure.add_vline(x=mean, line={"color": GREY, "dash": "dot", "width": 1})
    figure.update_xaxes(tickformat=".3f", rangemode="tozero", showgrid=False)
    figure.update_yaxes(autorange="reversed")
    return figure
