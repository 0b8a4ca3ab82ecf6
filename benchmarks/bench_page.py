"""The page of `bench.py`: a plot of all ratios against their goals, and the table, whole in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from verdict import Verdict

from lorefuse.report.build import render
from lorefuse.report.style import GREY, blank_figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = {True: "#009E73", False: "#D55E00", None: GREY}
NAMES = {True: "goal reached", False: "goal not reached", None: "no goal"}
ROW_HEIGHT, FRAME_HEIGHT = 26, 130


def write_page(verdicts: list[Verdict], machine: str, troubles: list[str], out_path: Path) -> Path:
    """Write `bench.html`.

    Args:
        verdicts: Of all stages.
        machine: One line on where and how long.
        troubles: What was skipped or went wrong.
        out_path: Folder.
    """
    ratios = [verdict for verdict in verdicts if verdict.unit == "x"]
    figures = {"ratios": json.loads(ratio_plot(ratios).to_json())} if ratios else {}
    judged = [verdict.reached for verdict in verdicts if verdict.reached is not None]
    content = {
        "verdicts": verdicts,
        "words": {True: "reached", False: "not reached"},
        "machine": machine,
        "troubles": troubles,
        "num_reached": sum(judged),
        "num_judged": len(judged),
    }
    path = out_path / "bench.html"
    path.write_text(render("bench.html.j2", content, figures, templates_path=Path(__file__).parent), "utf-8")
    return path


def ratio_plot(verdicts: list[Verdict]) -> Figure:
    """Plot each ratio with its range on a log axis, and its goal as a stroke; right of 1 ours is the faster one."""
    import plotly.graph_objects as go

    height = FRAME_HEIGHT + ROW_HEIGHT * len(verdicts)
    figure = blank_figure("times faster than the peer", "", height=height)
    labels = [f"{verdict.stage}: {verdict.case}, {verdict.peer}" for verdict in verdicts]
    for state, colour in COLOURS.items():
        chosen = [(label, verdict) for label, verdict in zip(labels, verdicts, strict=True) if verdict.reached is state]
        if chosen:
            names, of = zip(*chosen, strict=True)
            error = {
                "type": "data",
                "symmetric": False,
                "array": [v.high - v.middle for v in of],
                "arrayminus": [v.middle - v.low for v in of],
            }
            x, marker = [v.middle for v in of], {"color": colour, "size": 9}
            trace = go.Scatter(x=x, y=list(names), mode="markers", name=NAMES[state], marker=marker, error_x=error)
            figure.add_trace(trace)
    wanted = [(verdict.goal, label) for label, verdict in zip(labels, verdicts, strict=True) if verdict.goal]
    if wanted:
        goals, names = zip(*wanted, strict=True)
        marker = {"symbol": "line-ns-open", "size": 16, "color": GREY, "line": {"width": 2}}
        figure.add_trace(go.Scatter(x=list(goals), y=list(names), mode="markers", name="goal", marker=marker))
    figure.add_vline(x=1, line={"dash": "dash", "color": GREY})
    figure.update_xaxes(type="log", dtick="D2")
    # Left to itself the axis keeps a twentieth of its length free at both ends.
    rows = list(dict.fromkeys(labels[::-1]))
    figure.update_yaxes(categoryorder="array", categoryarray=rows, range=[-0.7, len(rows) - 0.3])
    return figure
