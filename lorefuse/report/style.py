"""How every plot of a report looks: transparent, no frame, one font."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = {
    "real": "#0072B2",
    "none": "#D55E00",
    "shuffled": "#CC79A7",
    "random": "#009E73",
    "text_only": "#E69F00",
    "graph_only": "#56B4E9",
}
"""Okabe and Ito's palette: told apart with every common colour vision, on white and on near-black."""
GREY = "#8a8f98"


def blank_figure(x_title: str, y_title: str, *, height: int) -> Figure:
    """Return an empty figure in the reports' style.

    Args:
        x_title: Title of the x axis.
        y_title: Title of the y axis.
        height: In pixels.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    style(figure, height=height)
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title)
    return figure


def style(figure: Figure, *, height: int) -> None:
    """Give a figure the reports' style; `height` in pixels."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 60, "r": 16, "t": 36, "b": 56},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        # Eight pixels above, however tall the plot is.
        legend={"orientation": "h", "y": 1 + 8 / height, "yanchor": "bottom", "x": 0},
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(automargin=True, zeroline=False, showline=True)
    figure.update_yaxes(automargin=True, zeroline=False)
