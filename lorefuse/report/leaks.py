"""The page of `lorefuse leaks`: what a ranker gives away about the rows it was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.core.atomic import atomic_file, write_json
from lorefuse.leaks.files import LEAKS_FILE, LEAKS_PAGE
from lorefuse.report.style import GREY, blank_figure
from lorefuse.training.evaluation import is_number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ATTACKS = {
    ("halves", "lira"): ("likelihood ratio, random halves", "#D55E00"),
    ("halves", "loss"): ("loss threshold, random halves", "#0072B2"),
    ("registered", "loss"): ("loss threshold, train against test rows", "#999999"),
}
"""Attacks by their place in `leaks.json`: titles and colours."""
NOTES = {
    ("halves", "lira"): "the fair one, and the strongest",
    ("halves", "loss"): "fair",
    ("registered", "loss"): "not fair: train and test rows differ by time as well",
}


def write_leaks(content: Mapping[str, Any], folder_path: Path) -> Path:
    """Write `leaks.json` and `leaks.html`, whole in one file, and return the page's path.

    Args:
        content: What `leaks.run.measure_membership` wrote, ``texts`` of `leaks.texts.text_reconstruction` with it, and
            ``name`` of the preset.
        folder_path: Folder to write into.
    """
    from lorefuse.report.build import render

    write_json(folder_path / LEAKS_FILE, dict(content))
    figures = {"curves": json.loads(curve_figure(content).to_json())}
    page = render("leaks.html.j2", {"leaks": leaks_section(content)}, figures)
    with atomic_file(folder_path / LEAKS_PAGE) as draft_path:
        draft_path.write_text(page, "utf-8")
    return folder_path / LEAKS_PAGE


def leaks_section(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `leaks.html.j2` shows of `leaks.json`."""
    return {
        "name": content["name"],
        "num_models": content["num_models"],
        "num_rows": content["num_rows"],
        "verdict": verdict_text(content),
        "privacy": privacy_text(content["privacy"]),
        "attacks": [
            {
                "name": title,
                "note": NOTES[place],
                "auc": interval_text(content[place[0]][place[1]]["auc"]),
                "tpr": interval_text(content[place[0]][place[1]]["tpr"]),
            }
            for place, (title, _) in ATTACKS.items()
        ],
        "ids": _id_rows(content["ids"]),
        "texts": content["texts"],
    }


def _id_rows(ids: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    titles = {"halves": "random halves (fair)", "registered": "train against test likes (time differs too)"}
    if ids is None:
        return []
    parts = ("member", "control", "difference")
    return [
        {"name": titles[name], "num_users": of["num_users"], **{part: interval_text(of[part]) for part in parts}}
        for name, of in ids.items()
    ]


def interval_text(entry: Mapping[str, Any]) -> str:
    """Return a figure with its interval, ``0.5312 [0.5201, 0.5400]``."""
    if not is_number(entry["mean"]):
        return "–"
    ends = f" [{entry['low']:.4f}, {entry['high']:.4f}]" if is_number(entry["low"]) else ""
    return f"{entry['mean']:.4f}{ends}"


def verdict_text(content: Mapping[str, Any]) -> str:
    """Say in words whether train rows can be told, by the likelihood ratio on random halves."""
    auc = content["halves"]["lira"]["auc"]
    if not is_number(auc["low"]):
        return "too few users to say"
    if auc["low"] <= 0.5:
        return "no evidence that train rows can be told"
    return "train rows can be told better than by guessing"


def privacy_text(privacy: Mapping[str, Any] | None) -> str:
    """Return the guarantee that a ranker was trained with, in words."""
    if privacy is None:
        return "none: trained without differential privacy"
    return (
        f"ε {privacy['epsilon']:.2f}, δ {privacy['delta']:.0e} by user, for the weights of the ranker; vocabularies, "
        "statistics and what else it reads are without noise"
    )


def curve_figure(content: Mapping[str, Any]) -> Figure:
    """Plot found members over false alarms, both logarithmic, as membership attacks are read; dotted is guessing."""
    import plotly.graph_objects as go

    figure = blank_figure("false alarms", "members found", height=420)
    points = content["curve_points"][1:]
    for place, (title, colour) in ATTACKS.items():
        curve = content[place[0]][place[1]]["curve"][1:]
        figure.add_trace(go.Scatter(x=points, y=curve, name=title, mode="lines", line={"color": colour, "width": 2}))
    line = {"color": GREY, "dash": "dot", "width": 1}
    figure.add_trace(go.Scatter(x=[points[0], 1], y=[points[0], 1], name="guessing", mode="lines", line=line))
    figure.update_xaxes(type="log", showgrid=False)
    figure.update_yaxes(type="log", gridcolor=GREY)
    return figure
