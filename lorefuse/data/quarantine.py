"""A record of rows that cannot be used, with the file and line that each came from."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse.core.atomic import atomic_file
from lorefuse.core.errors import DataError
from lorefuse.data.times import KNOWN_TIMES

LINE = "__line__"
"""Column of a raw table: 1-based physical line in a CSV (the header is line 1), row number in a Parquet file."""

_QUOTING = "say how its cells are quoted (data.source.quote, data.source.escape) and parted (data.source.delimiter)"
ADVICE = {
    "timestamp cannot be read": f"write times in one of the forms that can be read ({KNOWN_TIMES}), or name the unit "
    "of numbers (data.source.timestamp_unit: s)",
    "broken quotes": _QUOTING,
    "wrong number of cells": _QUOTING,
    "value is not a finite number": "give the names of events their values "
    "(data.source.event_values: {view: 1, buy: 5})",
}
"""What to do about a reason, beyond mending rows one by one."""


@dataclass
class Quarantine:
    """Rows that were left out, with file, line and reason; nothing is dropped without a record here."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    num_rows_read: Counter[str] = field(default_factory=Counter)
    hints: dict[str, str] = field(default_factory=dict)
    """What seems to be wrong with a file as a whole."""
    keeps_text: bool = True
    """Whether a line that cannot be read is kept as it came; else it is known by its number alone."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rows that are left out without a record of them, by file and reason: they must not be held."""

    def add(self, file: str, line: int, reason: str, row: Any) -> None:
        """Record one row as it came, or where it stands."""
        self._record(file, line, reason, row if self.keeps_text else None)

    def drop(self, file: str, reason: str, num_rows: int) -> None:
        """Count rows that must leave no record."""
        if num_rows:
            self.dropped[f"{file}: {reason}"] += num_rows

    def _record(self, file: str, line: int, reason: str, row: Any) -> None:
        self.rows.append({"file": file, "line": line, "reason": reason, "row": row})

    def add_rows(self, file: str, frame: pd.DataFrame, reasons: pd.Series) -> None:
        """Record the rows of `frame` that have a reason (indexed alike), as they came."""
        records = frame.loc[reasons.index].to_dict("records")
        for record, reason in zip(records, reasons, strict=True):
            row = {str(name): _plain(value) for name, value in record.items() if name != LINE}
            self._record(file, int(record[LINE]), str(reason), row)

    def counts(self) -> dict[str, int]:
        """Return the number of rows by file and reason (the reason's part before a colon)."""
        recorded = Counter(f"{row['file']}: {row['reason'].partition(':')[0]}" for row in self.rows)
        return dict(recorded + self.dropped)

    def summary(self, file: str) -> str:
        """Return one file's reasons with their counts, the most frequent first."""
        counts = Counter(row["reason"].partition(":")[0] for row in self.rows if row["file"] == file)
        return "; ".join(f"{reason} ({count})" for reason, count in counts.most_common())

    def write(self, path: Path) -> None:
        """Write one JSON object per line, sorted by file and line."""
        ordered = sorted(self.rows, key=lambda row: (row["file"], row["line"]))
        path.write_text("".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in ordered), "utf-8")

    def refuse_if_over(self, max_bad_share: float, copy_path: Path) -> None:
        """Raise DataError where a file lost more than `max_bad_share` of its rows; the record goes to `copy_path`."""
        bad = Counter(row["file"] for row in self.rows)
        for file, num_rows in self.num_rows_read.items():
            if num_rows and bad[file] / num_rows > max_bad_share:
                with atomic_file(copy_path) as draft_path:
                    self.write(draft_path)
                raise DataError(
                    f"{file}: {bad[file]} of {num_rows} rows cannot be used.",
                    expected=f"at most {max_bad_share:.0%} bad rows (data.max_bad_share)",
                    got=self.summary(file),
                    fix=f"{self.advice(file)}look at {copy_path}, mend the file, or raise data.max_bad_share",
                )

    def advice(self, file: str) -> str:
        """Return what mends a file's reasons, where that is known."""
        reasons = {row["reason"].partition(":")[0] for row in self.rows if row["file"] == file}
        known = [text for reason, text in ADVICE.items() if reason in reasons]
        known += [self.hints[file]] if file in self.hints else []
        return "".join(f"{text}; " for text in dict.fromkeys(known))


def _plain(value: Any) -> Any:
    """Turn a cell into something JSON can hold; NaN and infinity become text."""
    if isinstance(value, str | int | bool | type(None)):
        return value
    return str(value)
