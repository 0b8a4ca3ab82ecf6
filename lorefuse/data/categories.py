"""Categories of a cell: one, or several in any of the ways that people write them."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from lorefuse.data.cells import as_text
from lorefuse.data.names import shown_name

_log = logging.getLogger(__name__)


def several(cell: Any, separator: str) -> list[str]:
    """Return the categories of a cell: a list, a list written as text (``['a', 'b']``), or separated text.

    Example:
        >>> several("a | b", "|"), several("['a', 'b']", "|"), several('["x|y"]', "|"), several("[]", "|")
        (['a', 'b'], ['a', 'b'], ['x|y'], [])
        >>> several([["a", "b"], ["c"]], "|")
        ['a', 'b', 'c']
    """
    written = _list_of(cell.strip()) if isinstance(cell, str) else None
    cell = cell if written is None else written
    parts = cell if isinstance(cell, list | tuple | np.ndarray) else as_text(cell).split(separator)
    texts = (as_text(part) for part in _flat(parts))
    return [text for text in texts if text]


def _flat(parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        if isinstance(part, list | tuple | np.ndarray):
            yield from _flat(part)
        else:
            yield part


def one_each(cells: pd.Series) -> pd.Series:
    """Return the one category of each cell: that of a list which holds one; several are warned of, and kept as one."""
    lists = cells.map(
        lambda cell: _list_of(cell.strip()) if isinstance(cell, str) and cell.strip()[:1] == "[" else cell
    )
    is_list = [isinstance(cell, list | np.ndarray) for cell in lists]
    several_in_one = [cell for cell in lists[is_list] if len(cell) > 1]
    if several_in_one:
        _log.warning(
            "Column %r holds several categories in one cell, such as %s; each such set counts as one category. "
            "Name the column in data.source.item_multi_categories to tell them apart.",
            shown_name(str(cells.name)),
            list(several_in_one[0]),
        )
    texts = [
        as_text(list(_flat(parts)) if found else cell) for parts, found, cell in zip(lists, is_list, cells, strict=True)
    ]
    return pd.Series(texts, index=cells.index, dtype=object)


def _list_of(text: str) -> list[Any] | None:
    """Return the list that Python or JSON wrote; None where the text is none."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (ast.literal_eval, json.loads):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return found if isinstance(found, list) else None
    return None
