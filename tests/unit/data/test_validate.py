"""Times and numbers in every form they arrive in."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.data.cells import parse_numbers
from lorefuse.data.times import parse_timestamps

MOMENT = pd.Timestamp("1997-12-04T15:55:49.123456Z")


def one(cell: object, unit: str = "auto") -> pd.Timestamp:
    return parse_timestamps(pd.Series([cell], dtype=object), unit).iloc[0]


@pytest.mark.parametrize(
    ("cell", "unit", "exact_to"),
    [
        ("881250949", "auto", "s"),
        ("881250949", "s", "s"),
        ("881250949.123456", "s", "us"),
        ("881250949123", "auto", "ms"),
        ("881250949123456", "auto", "us"),
        ("881250949123456400", "auto", "us"),
        (881250949123456400, "ns", "us"),
        ("1997-12-04T15:55:49.123456", "auto", "us"),
        ("1997-12-04 15:55:49.123456+00:00", "auto", "us"),
        ("1997-12-04T17:55:49.123456+02:00", "auto", "us"),
        (dt.datetime(1997, 12, 4, 15, 55, 49, 123456), "auto", "us"),
        ("1997-12-04", "auto", "D"),
        ("19971204", "auto", "D"),
        (dt.date(1997, 12, 4), "auto", "D"),
    ],
)
def test_a_moment_is_read_in_each_form(cell: object, unit: str, exact_to: str) -> None:
    assert one(cell, unit) == MOMENT.floor(exact_to)


@given(st.integers(0, 4_000_000_000_000_000), st.sampled_from(["s", "ms", "us", "ns"]))
def test_a_unix_time_of_any_unit_keeps_its_microseconds(us: int, unit: str) -> None:
    per_unit = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": None}[unit]
    count = us * 1000 if per_unit is None else us // per_unit
    want = us if per_unit is None else count * per_unit
    assert abs(one(str(count), unit).value // 1000 - want) <= 1


@pytest.mark.parametrize("cell", ["x", "", None, np.nan, "inf", "1997-13-01", "9999-01-01"])
def test_what_is_no_moment_becomes_nat(cell: object) -> None:
    assert pd.isna(one(cell))


def test_one_bad_cell_does_not_decide_how_the_others_are_read() -> None:
    cells = pd.Series(["881250949", "x", "inf", "881250950", "881250951"], dtype=object)
    assert parse_timestamps(cells, "auto").dt.year.fillna(0).tolist() == [1997, 0, 0, 1997, 1997]


def test_datetime_columns_are_converted_to_utc() -> None:
    cells = pd.Series(pd.to_datetime(["2020-01-01", None]).tz_localize("Asia/Tokyo"))
    parsed = parse_timestamps(cells, "auto")
    assert parsed.iloc[0] == pd.Timestamp("2019-12-31T15:00Z")
    assert str(parsed.dtype) == "datetime64[us, UTC]"


def test_numbers_missing_and_wrong_ones_are_told_apart() -> None:
    cells = pd.Series(["4", " 3.5 ", None, "NaN", "x", "inf", "1e39", "-1e39"], dtype=object)
    assert parse_numbers(cells).fillna(-1).tolist() == [4, 3.5, -1, -1, np.inf, np.inf, np.inf, np.inf]
