"""The bulk engine leaves what Feast's own leaves: every cell of the table, byte for byte."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast import ValueType
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.feature_store import bulk_write
from lorefuse.feature_store.cells import varint
from tests.helpers.bulk_table import BULK, FEATURES, IDS, MOMENTS_US, WHOLE, Repository, table

LATER_US = [us + 1_000_000 for us in MOMENTS_US]


def cells(repository: Repository) -> list[Any]:
    """Every cell of the online table, in order."""
    with sqlite3.connect(repository.database_path) as connection:
        return connection.execute("SELECT * FROM shop_facts ORDER BY entity_key, feature_name").fetchall()


def both(path: Path, *fills: dict[str, Any]) -> tuple[Repository, Repository]:
    ours, feasts = Repository(path / "ours", BULK), Repository(path / "feasts", None)
    for fill in fills:
        ours.fill(**fill)
        feasts.fill(**fill)
    return ours, feasts


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the bulk writer said of every table: whether it wrote it."""
    said: list[bool] = []
    write = bulk_write._write

    def recorded(*args: Any, **kwargs: Any) -> bool:
        said.append(write(*args, **kwargs))
        return said[-1]

    monkeypatch.setattr(bulk_write, "_write", recorded)
    return said


def test_every_cell_is_feasts(tmp_path: Path, written: list[bool]) -> None:
    ours, feasts = both(tmp_path, {"rows": table(pa.array(IDS), MOMENTS_US)})
    assert written == [True]
    assert cells(ours) == cells(feasts)
    assert len(cells(ours)) == len(IDS) * len(FEATURES)
    pd.testing.assert_frame_equal(ours.answers([*IDS, "nobody"]), feasts.answers([*IDS, "nobody"]))


def test_a_later_fill_writes_over(tmp_path: Path, written: list[bool]) -> None:
    later = table(pa.array([*IDS[:4], "new"]), LATER_US)
    ours, feasts = both(tmp_path, {"rows": table(pa.array(IDS), MOMENTS_US)}, {"rows": later, "created": ""})
    assert written == [True, True]
    assert cells(ours) == cells(feasts)
    assert len(cells(ours)) == (len(IDS) + 1) * len(FEATURES)


def test_of_several_rows_of_a_key_the_latest_counts(tmp_path: Path) -> None:
    rows = table(pa.array(["a", "a", "b", "b", "a"]), MOMENTS_US)
    ours, feasts = both(tmp_path, {"rows": rows})
    assert cells(ours) == cells(feasts)


def test_of_rows_of_one_moment_the_one_that_feast_takes_counts(tmp_path: Path) -> None:
    rows = table(pa.array(["a", "a", "b", "b", "a"]), [MOMENTS_US[0]] * 5)
    many = pa.concat_tables([rows] * 40)
    ours, feasts = both(tmp_path, {"rows": many, "created": ""})
    assert cells(ours) == cells(feasts)


@pytest.mark.parametrize(
    ("name", "kind"), [("number", pa.int64()), ("vector", pa.list_(pa.float32(), 2)), ("it's", pa.large_string())]
)
def test_sources_of_other_types_give_what_feast_gives(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    rows = table(pa.array(IDS), MOMENTS_US)
    values = {"number": [2**53 + 1, None, 3, 4, 5], "vector": [[1, 2], None, [3, 4], [5, 6], [7, 8]]}
    column = pa.array(values.get(name, ["a", None, "b", "", "c"]), kind)
    ours, feasts = both(tmp_path, {"rows": rows.set_column(rows.schema.get_field_index(name), name, column)})
    assert cells(ours) == cells(feasts)


@pytest.mark.parametrize(("arrow", "key_type"), [(pa.int64(), ValueType.INT64), (pa.int32(), ValueType.INT32)])
def test_whole_numbers_are_keys_too(
    tmp_path: Path, arrow: pa.DataType, key_type: ValueType, written: list[bool]
) -> None:
    rows = table(pa.array([3, -1, 0, 70_000, 2], arrow), MOMENTS_US)
    ours, feasts = both(tmp_path, {"rows": rows, "key_type": key_type})
    assert written == [True]
    assert cells(ours) == cells(feasts)


def test_what_it_does_not_know_goes_feasts_way(tmp_path: Path, written: list[bool]) -> None:
    ours, feasts = both(tmp_path, {"rows": table(pa.array(IDS), MOMENTS_US), "features": WHOLE})
    assert written == []
    assert cells(ours) == cells(feasts)


def test_a_failure_is_raised_and_leaves_no_row(tmp_path: Path) -> None:
    ours = Repository(tmp_path, BULK)
    rows = table(pa.array(IDS), MOMENTS_US)
    with pytest.raises(Exception, match="vector"):  # Feast's own error: the source lacks a column
        ours.fill(rows.drop_columns(["vector"]))
    assert cells(ours) == []


@given(st.integers(0, 2**63 - 1))
def test_lengths_are_protobufs(number: int) -> None:
    from google.protobuf.internal.encoder import _VarintBytes

    assert varint(number) == _VarintBytes(number)
