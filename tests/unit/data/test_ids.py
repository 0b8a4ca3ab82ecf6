"""Ids of every type a file may give them, and those that have been rounded on the way."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorefuse.config import DataConfig, FileSource
from lorefuse.core.errors import DataError
from lorefuse.data import large
from lorefuse.data.dataset import Dataset
from lorefuse.data.ids import as_ids
from lorefuse.data.ingest import ingest

HUGE = [1_234_567_890_123_456_789 + n for n in range(40)]
FILE = Path("file.parquet")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pd.Series([1.0, np.nan, 20.0]), ["1", None, "20"]),
        (pd.Series([1.5, 2.0**53 - 1]), ["1.5", "9007199254740991"]),
        (pd.Series(["007", " 7 ", "123.0", "1e5", "", None]), ["007", "7", "123.0", "1e5", None, None]),
        (pd.Series([7, None, 8], dtype="Int64"), ["7", None, "8"]),
        (pd.Series([HUGE[0], None], dtype=object), [str(HUGE[0]), None]),
        (pd.Series([Decimal("123"), Decimal("123.00"), Decimal("1.5"), None]), ["123", "123", "1.5", None]),
        (pd.Series(["a", "b", None], dtype="category"), ["a", "b", None]),
        (pd.Series([1.0, 2.0], dtype="category"), ["1", "2"]),
        (pd.Series([2**64 - 1], dtype="uint64"), [str(2**64 - 1)]),
        (pd.Series(["a", 5, 6.0], dtype=object), ["a", "5", "6"]),
        (pd.Series(["x" * 1000, "пользователь 1", "用户", "👩‍🔬"]), ["x" * 1000, "пользователь 1", "用户", "👩‍🔬"]),
        (pd.Series([None, None], dtype=object), [None, None]),
    ],
)
def test_an_id_is_what_was_meant(cells: pd.Series, expected: list[str | None]) -> None:
    assert as_ids(cells, FILE).tolist() == expected


@pytest.mark.parametrize(
    "cells",
    [
        pd.Series([*HUGE, None], dtype="float64", name="who"),
        pd.Series([2.0**53], name="who"),
        pd.Series([-(2.0**60)], name="who"),
        pd.Series([2.0**24], dtype="float32", name="who"),
        pd.Series([2.0**53, 1.0], dtype="category", name="who"),
        pd.Series(["a", 2.0**53], dtype=object, name="who"),
        pd.Series(["12", "1.2345678901234568e+18"], name="who"),
        pd.Series(["1.23457E+18"], name="who"),
    ],
)
def test_rounded_ids_are_refused(cells: pd.Series) -> None:
    with pytest.raises(DataError, match=r"'who' of file.parquet have been rounded") as caught:
        as_ids(cells, FILE)
    assert caught.value.exit_code == 2
    assert "Int64" in str(caught.value)


def _shop(folder: Path, users: Any) -> DataConfig:
    num_rows = len(users)
    columns = {"user_id": users, "item_id": pa.array([f"i{n % 3}" for n in range(num_rows)])}
    columns |= {
        "rating": pa.array([1.0 + n % 5 for n in range(num_rows)]),
        "timestamp": pa.array(range(1, num_rows + 1)),
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    pd.DataFrame({"item_id": ["i0", "i1", "i2"], "title": "t"}).to_csv(folder / "items.csv", index=False)
    paths = {"interactions_path": folder / "rows.parquet", "items_path": folder / "items.csv"}
    return DataConfig(source=FileSource(timestamp_unit="s", **paths), max_bad_share=0.5)


@pytest.mark.parametrize("many_rows", [large.MANY_ROWS, 1], ids=["one-table", "batches"])
def test_integers_with_an_empty_cell_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many_rows: int
) -> None:
    """pandas would make floats of them, and one user of forty."""
    monkeypatch.setattr(large, "MANY_ROWS", many_rows)
    config = _shop(tmp_path, pa.array([*HUGE, None], pa.int64()))
    (tmp_path / "out").mkdir()
    manifest = ingest(config, tmp_path / "out")
    assert Dataset.open(tmp_path / "out").users()["user_id"].tolist() == [str(user) for user in HUGE]
    assert manifest["quarantined"] == {"rows.parquet: empty id": 1}


@pytest.mark.parametrize("many_rows", [large.MANY_ROWS, 1], ids=["one-table", "batches"])
def test_a_file_of_rounded_ids_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many_rows: int) -> None:
    monkeypatch.setattr(large, "MANY_ROWS", many_rows)
    config = _shop(tmp_path, pa.array([*map(float, HUGE), None], pa.float64()))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="have been rounded"):
        ingest(config, tmp_path / "out")


def test_bytes_that_are_text_are_text(tmp_path: Path) -> None:
    """Spark and Impala write texts without saying that they are."""
    config = _shop(tmp_path, pa.array(["é".encode(), b"b", b"b", b"b", b"b"], pa.binary()))
    (tmp_path / "out").mkdir()
    ingest(config, tmp_path / "out")
    assert Dataset.open(tmp_path / "out").users()["user_id"].tolist() == ["b", "é"]
