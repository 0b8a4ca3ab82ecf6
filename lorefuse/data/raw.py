"""Raw tables: columns of strings with the line each row came from, and a record of rows that cannot be used."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse.errors import DataError

LINE = "__line__"
"""Column of a raw table: 1-based physical line in a CSV (the header is line 1), row number in a Parquet file."""


@dataclass
class Quarantine:
    """Rows that were left out, with file, line and reason; nothing is dropped without a record here."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    num_rows_read: Counter[str] = field(default_factory=Counter)

    def add(self, file: str, line: int, reason: str, row: Any) -> None:
        """Record one row."""
        self.rows.append({"file": file, "line": line, "reason": reason, "row": row})

    def add_rows(self, file: str, frame: pd.DataFrame, reasons: pd.Series) -> None:
        """Record the rows of `frame` that have a reason (indexed alike)."""
        for index, reason in reasons.items():
            row = {name: _plain(value) for name, value in frame.loc[index].items() if name != LINE}
            self.add(file, int(frame.at[index, LINE]), str(reason), row)

    def counts(self) -> dict[str, int]:
        """Return the number of rows by file and reason (the reason's part before a colon)."""
        return dict(Counter(f"{row['file']}: {row['reason'].partition(':')[0]}" for row in self.rows))

    def write(self, path: Path) -> None:
        """Write one JSON object per line, sorted by file and line."""
        ordered = sorted(self.rows, key=lambda row: (row["file"], row["line"]))
        path.write_text("".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in ordered), "utf-8")

    def refuse_if_over(self, max_bad_share: float, copy_path: Path) -> None:
        """Raise DataError where a file lost more than `max_bad_share` of its rows; the record goes to `copy_path`."""
        bad = Counter(row["file"] for row in self.rows)
        for file, num_rows in self.num_rows_read.items():
            if num_rows and bad[file] / num_rows > max_bad_share:
                copy_path.parent.mkdir(parents=True, exist_ok=True)
                self.write(copy_path)
                reasons = "; ".join(f"{reason} ({count})" for reason, count in sorted(self.counts().items()))
                raise DataError(
                    f"{file}: {bad[file]} of {num_rows} rows cannot be used.",
                    expected=f"at most {max_bad_share:.0%} bad rows (data.max_bad_share)",
                    got=reasons,
                    fix=f"look at {copy_path}, mend the file, or raise data.max_bad_share",
                )


def read_table(path: Path, quarantine: Quarantine, delimiter: str | None = None) -> pd.DataFrame:
    """Read a CSV (plain or .gz) or Parquet file without guessing types.

    Args:
        path: The file; ``.parquet`` and ``.pq`` are Parquet, anything else is a delimited text in UTF-8.
        quarantine: Receives lines with the wrong number of cells or broken UTF-8.
        delimiter: Null: a tab for ``.tsv``, else a comma.

    Returns:
        CSV: columns of strings, empty cells as None. Parquet: columns as they are. Both with `LINE`.

    Raises:
        DataError: The file is missing, empty, unreadable, or has a repeated column name.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.", fix="correct the path in the configuration's data.source section")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.", expected="a header line and at least one row", got="0 bytes")
    parquet = path.suffix in (".parquet", ".pq")
    frame = _read_parquet(path) if parquet else _read_csv(path, quarantine, delimiter)
    repeated = [str(name) for name, count in Counter(frame.columns).items() if count > 1]
    if repeated:
        raise DataError(f"{path} names a column twice.", expected="distinct column names", got=", ".join(repeated))
    quarantine.num_rows_read[path.name] += len(frame)
    if frame.empty:
        raise DataError(f"{path} holds no usable row.", expected="at least one row under the header", got="none")
    return frame


def require_columns(frame: pd.DataFrame, columns: list[str], path: Path) -> None:
    """Raise DataError for columns that are not there, with the nearest name that is."""
    have = [str(name) for name in frame.columns if name != LINE]
    for name in columns:
        if name not in have:
            near = difflib.get_close_matches(name, have, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
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
        frame = pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file.", got=str(error).splitlines()[0]) from None
    frame[LINE] = range(1, len(frame) + 1)
    return frame


def _read_csv(path: Path, quarantine: Quarantine, delimiter: str | None) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import csv

    separator = delimiter or ("\t" if ".tsv" in path.suffixes or path.suffix == ".data" else ",")
    bad_lines: list[int] = []

    def note_bad_line(row: Any) -> str:
        bad_lines.append(int(row.number))
        reason = f"wrong number of cells: expected {row.expected_columns}, got {row.actual_columns}"
        quarantine.add(path.name, int(row.number), reason, row.text)
        return "skip"

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            header = csv.open_csv(stream, parse_options=csv.ParseOptions(delimiter=separator)).schema.names
        with pa.input_stream(str(path), compression="detect") as stream:
            table = csv.read_csv(
                stream,
                # One thread: only then does the reader know the number of a bad line.
                read_options=csv.ReadOptions(use_threads=False),
                parse_options=csv.ParseOptions(
                    delimiter=separator, newlines_in_values=True, invalid_row_handler=note_bad_line
                ),
                convert_options=csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(header, pa.binary()),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} could not be read as delimited text.",
            expected=f"UTF-8 with cells separated by {separator!r} and a header line",
            got=str(error).splitlines()[0],
            fix="set data.source.delimiter, or save the file as CSV in UTF-8",
        ) from None
    quarantine.num_rows_read[path.name] += len(bad_lines)
    raw = table.to_pandas()
    raw[LINE] = _line_numbers(raw, bad_lines)
    return _decode(raw, quarantine, path.name).rename(columns=lambda name: str(name).lstrip("\ufeff").strip())


def _line_numbers(raw: pd.DataFrame, bad_lines: list[int]) -> pd.Series:
    """Physical lines: rows before, quoted line breaks before, and skipped lines before, below the header."""
    breaks = sum((raw[name].str.count(b"\n").fillna(0) for name in raw.columns), start=pd.Series(0, raw.index))
    lines = pd.Series(range(2, len(raw) + 2), raw.index) + breaks.cumsum().shift(fill_value=0).astype(int)
    for bad in sorted(bad_lines):
        lines += (lines >= bad).astype(int)
    return lines.astype("int64")


def _decode(raw: pd.DataFrame, quarantine: Quarantine, file: str) -> pd.DataFrame:
    """Decode every cell; rows with bytes that are not UTF-8 go to quarantine."""
    text = raw.copy()
    broken = pd.Series(False, raw.index)
    for name in raw.columns.drop(LINE):
        cells = raw[name].str.decode("utf-8", errors="replace")
        suspects = cells.str.contains("\ufffd", regex=False, na=False)
        for index in cells.index[suspects]:
            try:
                raw.at[index, name].decode("utf-8")
            except UnicodeDecodeError:
                broken[index] = True
        text[name] = cells.astype(object).where(cells.notna(), None)
    quarantine.add_rows(file, text[broken], pd.Series("broken UTF-8", text.index[broken]))
    return text[~broken].reset_index(drop=True)


def _plain(value: Any) -> Any:
    """Turn a cell into something JSON can hold."""
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    return str(value)
