"""What lists are called in the report, and the order they are shown in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorefuse.lists.stage_files import SERVED, WITH_RANKER, WITHOUT_RANKER
from lorefuse.report.style import COLOURS

TITLES = {
    SERVED: "served",
    WITHOUT_RANKER: WITHOUT_RANKER,
    WITH_RANKER: WITH_RANKER,
    "popularity": "popularity",
    "item_knn": "ItemKNN",
    "ease": "EASE",
}
"""Lists by name; any other is the served list of an arm, which has other knowledge."""


def list_title(name: str) -> str:
    """Return what a list is called: ``shuffled`` → ``knowledge: shuffled``."""
    return TITLES.get(name, f"knowledge: {name}")


def list_order(content: Mapping[str, Any]) -> list[str]:
    """Return the lists of `lists.json` in reading order: served, simple ones, then other knowledge."""
    known = [name for name in TITLES if name in content["lists"]]
    return [*known, *(name for name in COLOURS if name in content["lists"]), *other_lists(content)]


def other_lists(content: Mapping[str, Any]) -> list[str]:
    """Return lists that have neither a title nor a colour of their own."""
    return [name for name in content["lists"] if name not in TITLES and name not in COLOURS]
