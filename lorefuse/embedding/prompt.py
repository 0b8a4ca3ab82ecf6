"""Templates that turn an item's columns into one text: versioned ones by name, or a text of one's own.

A text of one's own holds `{column}` where a cell goes. What stands in square brackets is left out where a cell in it
is missing: ``{title}[ by {author}]. [Genres: {genres}.]``. Doubled, ``{{ }} [[ ]]`` stand for themselves. The
template's name, or its whole text, is part of a vector's address.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lorefuse.core.errors import ConfigError
from lorefuse.data.markup import without_markup
from lorefuse.data.names import own_column, shown_name

_PIECE = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{[^{}\[\]]+\}|[\[\]{}]|[^\[\]{}]+")
_LITERAL = {"{{": "{", "}}": "}", "[[": "[", "]]": "]"}


def _labelled(row: Mapping[str, Any]) -> str:
    """Name each column: ``Title: Toy Story. Genres: Animation, Comedy.``."""
    parts = [(name, _cell(value)) for name, value in row.items()]
    return " ".join(f"{name.replace('_', ' ').capitalize()}: {text.rstrip('.')}." for name, text in parts if text)


def _plain(row: Mapping[str, Any]) -> str:
    """Join the cells alone: ``Toy Story. Animation, Comedy``."""
    return ". ".join(text for value in row.values() if (text := _cell(value)))


TEMPLATES: dict[str, Callable[[Mapping[str, Any]], str]] = {"default@1": _labelled, "plain@1": _plain}
"""A template never changes under its name: a better one gets the next number."""


class TextTemplate:
    """A template given as text.

    Args:
        text: See the module's docstring.

    Raises:
        ConfigError: A bracket or brace is not closed, or there is no placeholder.

    Example:
        >>> template = TextTemplate("{title}[ by {author}]")
        >>> template({"title": "Emma", "author": None}), template({"title": "Emma", "author": "Jane Austen"})
        ('Emma', 'Emma by Jane Austen')
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._segments = _parse(text)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the template reads, in order of first use."""
        names = [part for _, parts in self._segments for part, is_column in parts if is_column]
        return tuple(dict.fromkeys(names))

    def __call__(self, row: Mapping[str, Any]) -> str:
        """Fill in one row; empty where every cell is missing."""
        cells = {name: _cell_or_number(row[name]) for name in self.columns}
        if not any(cells.values()):
            return ""
        segments = [
            "".join(cells[part] if is_column else part for part, is_column in parts)
            for optional, parts in self._segments
            if not optional or all(cells[part] for part, is_column in parts if is_column)
        ]
        return "".join(segments).strip()


def _parse(text: str) -> list[tuple[bool, list[tuple[str, bool]]]]:
    """Return segments (is optional, parts); a part is a text or a column's name, told apart by its flag."""
    segments: list[tuple[bool, list[tuple[str, bool]]]] = [(False, [])]
    for piece in _PIECE.findall(text):
        optional, parts = segments[-1]
        if piece in _LITERAL:
            parts.append((_LITERAL[piece], False))
        elif piece == "[" and not optional:
            segments.append((True, []))
        elif piece == "]" and optional:
            segments.append((False, []))
        elif piece in "[]{}":
            raise _malformed(text, f"a {piece!r} without its partner")
        elif piece.startswith("{"):
            parts.append((piece[1:-1].strip(), True))
        else:
            parts.append((piece, False))
    if segments[-1][0]:
        raise _malformed(text, "a '[' without its partner")
    if not any(is_column for _, parts in segments for _, is_column in parts):
        raise _malformed(text, "no {column}")
    return segments


def _malformed(text: str, what: str) -> ConfigError:
    return ConfigError(
        "A prompt cannot be read.",
        expected="text with {column} placeholders and [optional parts], not nested; doubled they stand for themselves",
        got=f"{what} in {text!r}",
        fix="correct embedding.prompt",
    )


def item_texts(items: pd.DataFrame, columns: Sequence[str], prompt: str) -> list[str]:
    """Return one text per item, in order; empty where none of the columns says anything.

    Args:
        items: Items table; cells hold text, numbers or arrays of text.
        columns: Columns that make up the text, in order. A template given as text names its own instead.
        prompt: Name and version of the template, or its text.

    Raises:
        ConfigError: No template has this name and version, its text is malformed, or a column is not there.

    Example:
        >>> frame = pd.DataFrame({"title": ["Toy Story"], "genres": [["Animation", "Comedy"]]})
        >>> item_texts(frame, ["title", "genres"], "default@1")
        ['Title: Toy Story. Genres: Animation, Comedy.']
        >>> item_texts(frame, [], "{title}, a film of {genres}")
        ['Toy Story, a film of Animation, Comedy']
    """
    template = TextTemplate(prompt) if "{" in prompt else TEMPLATES.get(prompt)
    if template is None:
        raise ConfigError(
            "There is no such prompt.",
            expected=", ".join(sorted(TEMPLATES)) + ", or a text with {column} placeholders",
            got=prompt,
            fix="set embedding.prompt",
        )
    fix = "correct data.source.item_text"
    if isinstance(template, TextTemplate):
        columns, fix = template.columns, "correct the prompt's placeholders"
    stored = [own_column(items.columns, name) for name in columns]
    absent = [name for name in stored if name not in items.columns]
    if absent:
        raise ConfigError(
            "A text column is not among the items' columns.",
            expected=", ".join(map(str, items.columns)),
            got=", ".join(absent),
            fix=fix,
        )
    if not columns:
        return [""] * len(items)
    cells = [items[name].tolist() for name in stored]
    # A template of one's own, and whoever reads the text, knows the column by its name in the file.
    names = [name if isinstance(template, TextTemplate) else shown_name(name) for name in columns]
    return [template(dict(zip(names, row, strict=True))) for row in zip(*cells, strict=True)]


def _cell(value: Any) -> str:
    if isinstance(value, np.ndarray | list | tuple):
        return ", ".join(text for part in value if (text := _cell(part)))
    return "" if pd.isna(value) else re.sub(r"\s+", " ", without_markup(str(value))).strip()


def _cell_or_number(value: Any) -> str:
    """As `_cell`, but 1995.0 and float32's 3.70000005 read as 1995 and 3.7."""
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else f"{value:.6g}"
    return _cell(value)
