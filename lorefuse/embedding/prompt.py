"""Versioned templates that turn an item's columns into one text; the version is part of a vector's address."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lorefuse.errors import ConfigError


def _labelled(row: Mapping[str, Any]) -> str:
    """Name each column: ``Title: Toy Story. Genres: Animation, Comedy.``."""
    parts = [(name, _cell(value)) for name, value in row.items()]
    return " ".join(f"{name.replace('_', ' ').capitalize()}: {text.rstrip('.')}." for name, text in parts if text)


def _plain(row: Mapping[str, Any]) -> str:
    """Join the cells alone: ``Toy Story. Animation, Comedy``."""
    return ". ".join(text for value in row.values() if (text := _cell(value)))


TEMPLATES: dict[str, Callable[[Mapping[str, Any]], str]] = {"default@1": _labelled, "plain@1": _plain}
"""A template never changes under its name: a better one gets the next number."""


def item_texts(items: pd.DataFrame, columns: Sequence[str], prompt: str) -> list[str]:
    """Return one text per item, in order; empty where none of the columns says anything.

    Args:
        items: Items table; cells hold text or arrays of text.
        columns: Columns that make up the text, in order.
        prompt: Name and version of the template.

    Raises:
        ConfigError: No template has this name and version, or a column is not there.

    Example:
        >>> frame = pd.DataFrame({"title": ["Toy Story"], "genres": [["Animation", "Comedy"]]})
        >>> item_texts(frame, ["title", "genres"], "default@1")
        ['Title: Toy Story. Genres: Animation, Comedy.']
    """
    template = TEMPLATES.get(prompt)
    if template is None:
        raise ConfigError(
            "There is no such prompt.", expected=", ".join(sorted(TEMPLATES)), got=prompt, fix="set embedding.prompt"
        )
    absent = [name for name in columns if name not in items.columns]
    if absent:
        raise ConfigError(
            "A text column is not among the items' columns.",
            expected=", ".join(map(str, items.columns)),
            got=", ".join(absent),
            fix="correct data.source.item_text",
        )
    if not columns:
        return [""] * len(items)
    cells = [items[name].tolist() for name in columns]
    return [template(dict(zip(columns, row, strict=True))) for row in zip(*cells, strict=True)]


def _cell(value: Any) -> str:
    if isinstance(value, np.ndarray | list | tuple):
        return ", ".join(text for part in value if (text := _cell(part)))
    return "" if pd.isna(value) else re.sub(r"\s+", " ", str(value)).strip()
