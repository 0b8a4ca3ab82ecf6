"""Moments as people write them: every time comes out as it was meant, or is set aside; none is guessed from a few.

Numbers of a column are read as one kind, the one that makes most of them moments between 1971 and now; a cell that
is of another kind is set aside. Where no kind makes most of them such moments, or two kinds do, all are set aside.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pandas as pd

UTC_US: Final = "datetime64[us, UTC]"
MAX_CLOCK_SKEW = pd.Timedelta(days=1)
KNOWN_TIMES = (
    "2020-10-28T12:46:54Z, 2020-10-28, 28 Oct 2020 12:46, 10/28/2020 (a day beyond 12 tells it from the month), "
    "20201028, 202010281246, Unix time in s, ms, us or ns since 1971, a spreadsheet's 44132.53"
)
"""What can be read, for messages."""
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_DAY_ONE = {"spreadsheet": "1899-12-30", "day": "1970-01-01"}
_RECENT = 1971, 1985
"""Years from which on a number is taken for a moment; the second for days: as seconds, a day or a year is in 1970."""
_DATES = {
    "%Y%m%d": (19_000_000, 21_000_000),
    "%Y%m%d%H": (1_900_000_000, 2_100_000_000),
    "%Y%m%d%H%M": (190_000_000_000, 210_000_000_000),
    "%Y%m%d%H%M%S": (19_000_000_000_000, 21_000_000_000_000),
    "%Y": (1900, 2100),
    "%y%m%d%H": (1_000_000, 100_000_000),
    "%d%m%Y": (1_000_000, 100_000_000),
    "%m%d%Y": (1_000_000, 100_000_000),
}
"""Dates written as one number, and between which numbers."""
_RIVALS = ("%y%m%d%H", "%d%m%Y", "%m%d%Y")
"""Kinds that may make moments of the same numbers, neither likelier than the other."""
_DAY_AND_MONTH = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?:[ ,T]+(.*))?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = re.compile(
    r"\b(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"\b(\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*([ap]m\b)?\s*((?:UTC|GMT)?[+-]\d{2}:?\d{2}\b|UTC\b|GMT\b|Z\b)?",
    re.IGNORECASE,
)
_YEAR, _DAY = re.compile(r"\b(\d{4})\b"), re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)?\b")
_WEEKDAY = re.compile(
    r"\b(mon|tue|tues|wed|thu|thur|thurs|fri|sat|sun|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b", re.I
)


def parse_timestamps(cells: pd.Series, unit: str) -> pd.Series:
    """Turn what people write into UTC microseconds; what cannot be read for certain becomes NaT.

    Args:
        cells: Text, numbers or datetimes; naive times count as UTC.
        unit: Of Unix times: ``s``, ``ms``, ``us``, ``ns``; ``auto`` tells numbers by what they would be.
            Day and month of ``31/12/2020`` are told apart by a day beyond 12 somewhere in the column.
    """
    if pd.api.types.is_datetime64_any_dtype(cells):
        return pd.to_datetime(cells, utc=True).astype(UTC_US)
    numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
    numbers = numbers.where(np.isfinite(numbers))
    if numbers.notna().sum() < 0.5 * max(int(cells.notna().sum()), 1):
        return _from_text(cells)
    if unit != "auto":
        return _from_unix(numbers, unit)
    return _from_numbers(numbers)


def _from_numbers(numbers: pd.Series) -> pd.Series:
    """Read a column by the kind that makes most of it moments; a date goes before the Unix time of the seventies."""
    latest = pd.Timestamp.now("UTC") + MAX_CLOCK_SKEW
    nothing = pd.Series(pd.NaT, index=numbers.index, dtype=UTC_US)
    best, best_kind, most = nothing, "", int(numbers.notna().sum()) // 2
    for kind in (*_DATES, *_PER_SECOND, *_DAY_ONE):
        times = _from_kind(numbers, kind)
        is_recent = times >= pd.Timestamp(year=_RECENT[kind == "day"], month=1, day=1, tz="UTC")
        votes = int((is_recent & (times <= latest)).sum())
        if votes > most:
            # What lies in the future or before 1970 says so itself; what lies in between is of another kind.
            best, best_kind, most = times.where(is_recent | (times < pd.Timestamp(0, tz="UTC"))), kind, votes
        elif votes == most and {kind, best_kind} <= set(_RIVALS):
            best = nothing
    return best


def _from_kind(numbers: pd.Series, kind: str) -> pd.Series:
    if kind in _DATES:
        return _from_digits(numbers, kind)
    return _from_unix(numbers, kind) if kind in _PER_SECOND else _from_days(numbers, _DAY_ONE[kind])


def _from_unix(numbers: pd.Series, unit: str) -> pd.Series:
    microseconds = numbers / _PER_SECOND[unit] * 1e6
    # Beyond the years that datetime64 holds there is no time to speak of.
    whole = microseconds.where(microseconds.abs() < 9.2e18).round().astype("Int64")
    return pd.to_datetime(whole, unit="us", utc=True, errors="coerce").astype(UTC_US)


def _from_days(numbers: pd.Series, first: str) -> pd.Series:
    days = pd.to_timedelta((numbers.where(numbers.between(0, 100_000)) * 86_400_000).round(), unit="ms")
    return (pd.Timestamp(first, tz="UTC") + days).astype(UTC_US)


def _from_digits(numbers: pd.Series, form: str) -> pd.Series:
    """Read whole numbers whose digits are a date."""
    low, high = _DATES[form]
    whole = numbers[(numbers >= low) & (numbers < high) & (numbers.mod(1) == 0)]
    digits = whole.astype("int64").astype(str).str.zfill(len(str(high - 1)))
    times = pd.to_datetime(digits, utc=True, errors="coerce", format=form).astype(UTC_US)
    return times.reindex(numbers.index)


def _from_text(cells: pd.Series) -> pd.Series:
    """Read ISO 8601, and dates with the name of the month or with a day that cannot be a month."""
    iso = _day_and_month_swapped(cells).map(_as_iso, na_action="ignore")
    return pd.to_datetime(iso, utc=True, errors="coerce", format="ISO8601").astype(UTC_US)


def _as_iso(cell: object) -> object:
    """Write one cell as ISO 8601 where it says the same in other words."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if _MONTH.search(text):
        return _named_month(text) or text
    text = re.sub(r"(:\d\d),(\d+)", r"\1.\2", text)
    text = re.sub(r"\s*([+-]\d\d:?\d\d)?\s*(?:UTC|GMT)$", lambda match: match[1] or "Z", text, flags=re.IGNORECASE)
    return re.sub(r"(:\d\d(?:\.\d+)?)\s+(?=[+-]\d\d:?\d\d$|Z$)", r"\1", text)


def _named_month(text: str) -> str | None:
    """Write ``Sat Mar 16 12:00:00 -0700 2013``, ``16 March 2013`` and the like as ISO 8601; None for others."""
    found: dict[str, re.Match[str] | None] = {}
    rest = re.sub(r"\s*\([^)]*\)$", "", text)
    parts = {"clock": _CLOCK, "month": _MONTH, "year": _YEAR, "weekday": _WEEKDAY, "day": _DAY}
    for name, pattern in parts.items():
        match = found[name] = pattern.search(rest)
        rest = rest if match is None else rest[: match.start()] + " " + rest[match.end() :]
    month, year, day, clock = (found[name] for name in ("month", "year", "day", "clock"))
    if month is None or year is None or day is None or rest.strip(" ,.-/T"):
        return None
    date = f"{year[1]}-{_MONTHS.index(month[1][:3].lower()) + 1:02}-{int(day[1]):02}"
    return date if clock is None else f"{date}{_time_of_day(clock)}"


def _time_of_day(clock: re.Match[str]) -> str:
    """Write the time of a day, with its offset."""
    time = pd.to_datetime(f"{clock[1].replace(',', '.')} {clock[2] or ''}".strip(), errors="coerce")
    zone = re.sub("UTC|GMT|Z", "", clock[3] or "", flags=re.IGNORECASE) or "Z"
    return "T?" if pd.isna(time) else f"T{time:%H:%M:%S.%f}{zone}"


def _day_and_month_swapped(cells: pd.Series) -> pd.Series:
    """Write dates such as ``31/12/2020 10:00`` or ``12/31/2020 9:05 PM`` as ISO 8601.

    Which is the day the column tells by one beyond 12. Where none is, or both places hold one, all are left alone, to
    be set aside: half of them would be wrong.
    """
    found = [_DAY_AND_MONTH.fullmatch(cell.strip()) if isinstance(cell, str) else None for cell in cells]
    first, second = (max((int(match[place]) for match in found if match), default=0) for place in (1, 3))
    if (first > 12) == (second > 12):
        return cells
    day, month = (1, 3) if first > 12 else (3, 1)

    def iso(match: re.Match[str]) -> str:
        date = f"{match[4]}-{int(match[month]):02}-{int(match[day]):02}"
        clock = _CLOCK.fullmatch(match[5].strip()) if match[5] else None
        return f"{date}{_time_of_day(clock)}" if clock else f"{date}T?" if match[5] else date

    swapped = [cell if match is None else iso(match) for cell, match in zip(cells, found, strict=True)]
    return pd.Series(swapped, index=cells.index, dtype=object)
