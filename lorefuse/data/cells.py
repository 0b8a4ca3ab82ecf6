"""Single cells of a table: what is text, what is a number, and what no column of ours can hold."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorefuse.core.errors import DataError

_YES_NO = {"true": "1", "false": "0"}
_MONEY = re.compile(r"^[$€£¥₽₹₩]\s*|\s*[$€£¥₽₹₩%]$")
_GROUPS = re.compile(r"(?<=\d)[\s'’](?=\d{3}(?!\d))")
"""Spaces and apostrophes between thousands, whatever a comma and a point mean."""
_COMMA_IS_DECIMAL = r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),(?:\d{1,2}|\d{4,})|[+-]?\d{1,3}(?:\.\d{3})+,\d+"
_POINT_IS_DECIMAL = r"[+-]?(?:\d+|\d{1,3}(?:,\d{3})+)?\.(?:\d{1,2}|\d{4,})|[+-]?\d{1,3}(?:,\d{3})+\.\d+"
_THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"
_SEVERAL_THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3}){2,}"


def refuse_structures(cells: pd.Series, path: Path, *, lists: bool = True) -> None:
    """Raise DataError where a column holds what is no text, number or list of such.

    Args:
        cells: A column as it was read.
        path: Its file, for the message.
        lists: Whether a cell may hold several texts or numbers.
    """
    if cells.dtype != object:
        return
    for cell in cells:
        kind = None if isinstance(cell, str) else _kind_of(cell, lists)
        if kind:
            raise DataError(
                f"{path}: the column {cells.name!r} holds {kind}.",
                expected="text or numbers" + (", or lists of them" if lists else ""),
                got=f"{type(cell).__name__}: {str(cell)[:80]}",
                fix="write the file again with the part you mean in a column of its own, as text",
            )


def as_text(cell: Any) -> str:
    """Return a cell as text: nothing for a missing one, no ``.0`` after a whole number.

    Example:
        >>> as_text(" a "), as_text(3.0), as_text(Decimal("3.00")), as_text(None), as_text(["a", 2]), as_text(b"a")
        ('a', '3', '3', '', 'a, 2', 'a')
    """
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, list | tuple | np.ndarray):
        return ", ".join(as_text(part) for part in cell)
    if isinstance(cell, bytes):
        return cell.decode("utf-8").strip()
    if pd.isna(cell):
        return ""
    is_whole = isinstance(cell, float | Decimal) and cell % 1 == 0
    return str(int(cell)) if is_whole else str(cell)


def parse_numbers(cells: pd.Series) -> pd.Series:
    """Turn cells into float64; an empty one becomes NaN, one that is no number (or no float32) becomes infinity.

    Yes and no may be written ``true`` and ``false``; a sign of money and spaces between thousands do not count. What a
    comma is, the column tells: in ``3,50`` and ``1.200,5`` it begins the decimals, in ``1,200.50`` it parts thousands.
    ``1,200`` alone may be either, and is no number.
    """
    if cells.dtype == object:
        cells = _with_points(cells.map(_bare, na_action="ignore"))
    numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
    is_wrong = numbers.isna() & cells.notna() & (cells.astype(str).str.strip().str.lower() != "nan")
    return numbers.mask(is_wrong | (numbers.abs() > np.finfo("float32").max), np.inf)


def _kind_of(cell: Any, lists: bool) -> str | None:
    """Name what a cell holds that cannot be used; None where it can."""
    if isinstance(cell, dict):
        return "structures"
    if isinstance(cell, tuple):
        return "maps"
    if isinstance(cell, bytes):
        try:
            cell.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes that are no UTF-8 text"
    if isinstance(cell, list | np.ndarray):
        if not lists:
            return "lists"
        return next((kind for part in cell if (kind := _kind_of(part, lists))), None)
    return None


def _bare(cell: Any) -> Any:
    """Return the text of a number without what is none of it."""
    if not isinstance(cell, str):
        return cell
    text = _GROUPS.sub("", _MONEY.sub("", cell.strip()))
    return _YES_NO.get(text.lower(), text)


def _with_points(cells: pd.Series) -> pd.Series:
    """Write numbers with a decimal point and nothing between thousands, where the column tells which is which."""
    text = cells[[isinstance(cell, str) for cell in cells]].astype(str)
    commas = text[text.str.contains(",", regex=False)]
    if commas.empty:
        return cells
    is_comma = commas.str.fullmatch(_COMMA_IS_DECIMAL).any()
    is_point = text.str.fullmatch(_POINT_IS_DECIMAL).any() or commas.str.fullmatch(_SEVERAL_THOUSANDS).any()
    cells = cells.copy()
    if is_comma and not is_point:
        cells[text.index] = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    elif is_point and not is_comma:
        grouped = commas[commas.str.fullmatch(_THOUSANDS)]
        cells[grouped.index] = grouped.str.replace(",", "", regex=False)
    return cells
