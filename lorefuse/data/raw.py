"""Raw tables: columns of text with the line each row came from, and a record of rows that cannot be used."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lorefuse.atomic import atomic_file
from lorefuse.data.delimited import UNREADABLE, open_bytes, read_delimited, require_distinct
from lorefuse.data.times import KNOWN_TIMES
from lorefuse.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

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


def read_table(
    path: Path,
    quarantine: Quarantine,
    delimiter: str | None = None,
    *,
    name: str | None = None,
    encoding: str | None = None,
    quote: str | None = '"',
    escape: str | None = None,
) -> pd.DataFrame:
    """Read a CSV or a file of JSON lines (plain or compressed), or a Parquet file, without guessing types.

    Args:
        path: The file; ``.parquet`` and ``.pq``, and what begins like Parquet, are; anything else is a delimited text.
        quarantine: Receives lines with the wrong number of cells, broken quotes or broken UTF-8.
        delimiter: Null: what separates the header's names.
        name: What the quarantine calls the file; default its name without folders.
        encoding: Of a delimited text; null: UTF-8, or UTF-16 with a mark.
        quote: What stands around its cells; null: nothing does.
        escape: What stands before a quote inside quotes; null: the quote doubled.

    Returns:
        CSV: columns of text, empty cells as None. JSON and Parquet: columns as they are. All with `LINE`.

    Raises:
        DataError: The file is missing, empty, unreadable, or has a repeated column name.
    """
    name = name or path.name
    if not path.is_file():
        raise DataError(
            f"There is no file {path}.",
            expected="a CSV or Parquet file",
            got="a folder" if path.is_dir() else "nothing there",
            fix="correct the path in the configuration's data.source section",
        )
    if path.stat().st_size == 0:
        raise DataError(
            f"{path} is empty.",
            expected="a header line and at least one row",
            got="0 bytes",
            fix="export the file again, or correct the path in data.source",
        )
    if path.suffix in (".parquet", ".pq") or _begins_like_parquet(path):
        frame = _read_parquet(path)
        num_bad = 0
    elif sign := _sign_of_json(path):
        frame = _read_json(path, quarantine, name, sign)
        num_bad = -len(frame)  # counted as they are read
    else:
        table = read_delimited(path, delimiter, encoding, quote=quote, escape=escape)
        for line, reason, text in table.bad:
            quarantine.add(name, line, reason, text)
        frame = pd.DataFrame(table.columns, dtype=object)
        frame[LINE] = table.lines
        num_bad = len(table.bad)
    quarantine.num_rows_read[name] += len(frame) + num_bad
    if frame.empty:
        raise DataError(
            f"{path} holds no usable row.",
            expected="at least one row under the header",
            got=quarantine.summary(name) or "none",
            fix=f"{quarantine.advice(name)}save it as UTF-8 or name its encoding (data.source.encoding: cp1252), "
            "set data.source.delimiter, or bring a file with rows",
        )
    return frame


def require_columns(frame: pd.DataFrame, columns: list[str], path: Path) -> None:
    """Raise DataError for columns that are not there, with the nearest name that is."""
    have = [str(name) for name in frame.columns if name != LINE]
    for name in columns:
        if name not in have:
            near = difflib.get_close_matches(name, have, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            if name == LINE:
                hint = "rename it in the file: Lorefuse keeps this name for the numbers of lines; "
            if len(have) == 1:
                hint = (
                    "name what separates the cells of this file (data.source.delimiter), or leave it out: each file's "
                )
                hint += "header tells; "
            raise DataError(
                f"{path} has no column {name!r}.",
                expected=f"columns {', '.join(columns)}",
                got=f"columns {', '.join(have)}",
                fix=f"{hint}map the column's name in data.source",
            )


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without pandas' own metadata a column that once was an index is a column again.
        table = pq.ParquetFile(path).read()
        require_distinct(table.column_names, path)
        frame = to_frame(table)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} could not be read.",
            expected="a whole Parquet file",
            got=str(error).splitlines()[0],
            fix="export the file again; a CSV needs another ending than .parquet",
        ) from None
    frame[LINE] = range(1, len(frame) + 1)
    return frame


def _read_json(path: Path, quarantine: Quarantine, name: str, sign: bytes) -> pd.DataFrame:
    """Read one JSON object a line; a key that a line has not is an empty cell."""
    from lorefuse.data.json_lines import read_json_lines

    if sign == b"[":
        raise DataError(
            f"{path} holds one JSON list.",
            expected="a table, or one JSON object a line",
            got="a file that begins with [",
            fix="write one object a line: jq -c '.[]', or frame.to_json(path, orient='records', lines=True)",
        )
    rows = list(read_json_lines(path, quarantine, name))
    columns = dict.fromkeys(key for _, row in rows for key in row)
    frame = pd.DataFrame({key: pd.Series([row.get(key) for _, row in rows], dtype=object) for key in columns})
    frame[LINE] = [line for line, _ in rows]
    return frame


def _sign_of_json(path: Path) -> bytes:
    """Return what a file, compressed or not, begins with if it holds JSON: ``{``, or ``[``; nothing for others."""
    try:
        with open_bytes(path) as stream:
            start = stream.read(256).removeprefix(b"\xef\xbb\xbf")
    except UNREADABLE:
        return b""  # whoever reads it says what is wrong
    found = re.match(rb"\s*(?:(\{)\s*[\"'}]|(\[)\s*\{)", start)
    return b"" if found is None else found[1] or found[2]


def _begins_like_parquet(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def to_frame(table: pa.Table | pa.RecordBatch) -> pd.DataFrame:
    """Return columns as pandas has them; integers stay integers where a cell is empty, bytes that are text are text."""
    import pyarrow as pa

    for place, kind in enumerate(table.schema.types):
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            with contextlib.suppress(pa.ArrowInvalid):  # no UTF-8: it stays what it is
                table = table.set_column(place, table.schema.names[place], table.column(place).cast(pa.string()))
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return frame


def _plain(value: Any) -> Any:
    """Turn a cell into something JSON can hold; NaN and infinity become text."""
    if isinstance(value, str | int | bool | type(None)):
        return value
    return str(value)
