"""Raw tables: columns of text with the line each row came from."""

from __future__ import annotations

import contextlib
import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lorefuse.core.errors import DataError
from lorefuse.data.delimited import UNREADABLE, open_bytes, read_delimited, require_distinct
from lorefuse.data.json_lines import read_json_lines
from lorefuse.data.quarantine import LINE, Quarantine

if TYPE_CHECKING:
    import pyarrow as pa


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
        delimiter: None: what separates the header's names.
        name: What the quarantine calls the file; default its name without folders.
        encoding: Of a delimited text; None: UTF-8, or UTF-16 with a mark.
        quote: What stands around its cells; None: nothing does.
        escape: What stands before a quote inside quotes; None: the quote doubled.

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
    if path.suffix in (".parquet", ".pq") or begins_like_parquet(path):
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


def begins_like_parquet(path: Path) -> bool:
    """Tell Parquet by its first bytes, whatever the name says."""
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
