"""Ids of users, items and entities as text: every id comes out as it was meant, or the file is refused."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorefuse.core.errors import DataError
from lorefuse.data.cells import refuse_structures

NO_ID = ("", "nan", "none", "null", "<na>")
_ROUNDED_TEXT = r"\d(\.\d+)?[eE]\+\d+"
"""A large number as pandas and spreadsheets write it into a CSV: its last digits are gone."""


def as_ids(cells: pd.Series, path: Path) -> pd.Series:
    """Turn ids into text; whole numbers lose a ``.0`` that a column of floats or decimals has, no id becomes None.

    Args:
        cells: A column of ids, of whatever type the file gives it.
        path: The file, for the message.

    Raises:
        DataError: The ids have been rounded: they are floats too large to be told apart.
    """
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(cells.cat.categories.dtype)
    if pd.api.types.is_float_dtype(cells):
        _refuse_rounded(cells, path)
        whole = cells.where(cells.mod(1) == 0).astype("Int64").astype(object)
        cells = whole.where(whole.notna(), cells.where(np.isfinite(cells)).astype(object))
    elif cells.dtype == object and pd.api.types.infer_dtype(cells, skipna=True) not in ("string", "integer"):
        _refuse_rounded(cells[[isinstance(cell, float) for cell in cells]].astype("float64"), path)
        refuse_structures(cells, path, lists=False)
        # One by one: pandas would make floats again of integers beside an empty cell.
        cells = pd.Series([_whole(cell) for cell in cells], index=cells.index, name=cells.name, dtype=object)
    text = cells.astype(object).where(cells.notna(), "").astype(str).str.strip()
    if path.suffix not in (".parquet", ".pq"):
        text = _without_fraction(text)
    is_rounded = text.str.fullmatch(_ROUNDED_TEXT)
    if is_rounded.any():
        raise _rounded(cells.name, path, text[is_rounded].iloc[0])
    return text.astype(object).mask(text.str.lower().isin(NO_ID), None)


def written_otherwise(unknown: Iterable[str], known: Iterable[str]) -> tuple[str, str] | None:
    """Return an unknown id and the known one that it seems to be, written in another way; None where there is none.

    Example:
        >>> written_otherwise(["x", "3.0"], ["3"]), written_otherwise(["7"], ["007"]), written_otherwise(["x"], ["y"])
        (('3.0', '3'), ('7', '007'), None)
    """
    known_as = {_bare(name): name for name in known}
    return next(((name, known_as[_bare(name)]) for name in unknown if _bare(name) in known_as), None)


def _bare(name: str) -> str:
    return name.removesuffix(".0").lstrip("0").casefold()


def _without_fraction(text: pd.Series) -> pd.Series:
    """Where every id of a CSV ends in ``.0`` pandas has written integers as floats, because one cell was empty."""
    filled = text[text != ""]
    return text.str.removesuffix(".0") if len(filled) and filled.str.fullmatch(r"\d+\.0").all() else text


def _whole(cell: Any) -> Any:
    """A number among texts without a fraction of zeros; bytes as the text they are."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8")
    return int(cell) if isinstance(cell, float | Decimal) and math.isfinite(cell) and cell % 1 == 0 else cell


def _refuse_rounded(cells: pd.Series, path: Path) -> None:
    """From 2⁵³ on (2²⁴ in 32 bits) a float stands for several whole numbers."""
    kind = cells.dtype.numpy_dtype if hasattr(cells.dtype, "numpy_dtype") else cells.dtype
    limit = 2.0 ** (np.finfo(kind).nmant + 1)
    is_rounded = (cells.abs() >= limit) & (cells.abs() < np.inf)
    if is_rounded.any():
        raise _rounded(cells.name, path, str(cells[is_rounded].iloc[0]))


def _rounded(column: Any, path: Path, got: str) -> DataError:
    return DataError(
        f"The ids in column {column!r} of {path} have been rounded: several of them may have become one.",
        expected="ids as text or as integers; a column of integers with an empty cell becomes one of floats in pandas",
        got=got,
        fix=f'write the file again with its ids as text or nullable integers: frame["{column}"].astype("Int64"), '
        "before anything turns them into floats",
    )
