"""Delimited text, read so that a bad line costs itself alone and is known by its number."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import DataError
from lorefuse.core.progress import track

_BROKEN = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as Python's `surrogateescape` keeps them."""
_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\x00": lzma}
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, UnicodeError)
"""What a file that is damaged, or is not what it seems, may raise."""
_SEPARATORS = (",", ";", "\t", "|")
_MAX_SHOWN = 500
_LINES_PER_TICK = 50_000
csv.field_size_limit(1 << 26)
"""Longest cell; Python's own limit of 128 kB would cost a row its long description."""


@dataclass
class Delimited:
    """A delimited text in columns.

    Attributes:
        columns: Cells by column name, text; an empty cell is None.
        lines: int64, the physical line each row begins on; the file's first line is 1.
        bad: Line, reason and text of each line that is no row.
    """

    columns: dict[str, NDArray[Any]]
    lines: NDArray[np.int64]
    bad: list[tuple[int, str, str]] = field(default_factory=list)


def read_delimited(
    path: Path,
    delimiter: str | None = None,
    encoding: str | None = None,
    *,
    quote: str | None = '"',
    escape: str | None = None,
) -> Delimited:
    """Read a delimited text with a header, plain or compressed (gzip, bzip2, xz, or a zip of one file).

    A line with the wrong number of cells, bytes that are not UTF-8, or a quote that is not closed is set aside and
    reading goes on with the next line; blank lines do not count. Cells in double quotes may hold line breaks.

    Args:
        path: The file.
        delimiter: None: what separates the header's names; where nothing does, a tab for ``.tsv`` and ``.data``, else a
            comma.
        encoding: None: UTF-8 with or without a mark, or UTF-16 with one.
        quote: What stands around cells; None: nothing does.
        escape: What stands before a quote inside quotes; None: the quote doubled.

    Raises:
        DataError: The file cannot be opened, is in another encoding, or has an unreadable header.
    """
    lines = _read_lines(path, encoding)
    separator = delimiter or _separator_of(next((line for line in lines if line.strip()), ""), path)
    dialect = {
        "delimiter": separator,
        "quotechar": quote,
        "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        "escapechar": escape,
        "doublequote": escape is None,
        "strict": True,
    }
    header, first = _header(lines, dialect, path)
    rows = _Rows()
    ticks = _parse(lines, first, dialect, len(header), rows)
    for _ in track(ticks, f"Reading {path.name}", total=len(lines) // _LINES_PER_TICK):
        pass
    cells = np.array(rows.cells, dtype=object).reshape(len(rows.cells), len(header))
    cells[cells == ""] = None
    columns = {name: cells[:, position] for position, name in enumerate(header)}
    return Delimited(columns, np.array(rows.lines, dtype=np.int64), rows.bad)


@dataclass
class _Rows:
    """What has been read so far."""

    cells: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad: list[tuple[int, str, str]] = field(default_factory=list)


def _read_lines(path: Path, encoding: str | None) -> list[str]:
    try:
        with open_bytes(path) as stream:
            start = stream.read(2)
            stream.seek(0)
            marked = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
            with TextIOWrapper(stream, encoding=encoding or marked, errors="surrogateescape") as text:
                return text.readlines()
    except UNREADABLE as error:
        raise _unreadable(path, str(error)) from None


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file by what it is, whatever its ending says: plain, gzip, bzip2, xz, or a zip that holds one file.

    Raises:
        DataError: It is a zip that does not hold one file, or a spreadsheet.
    """
    with path.open("rb") as stream:
        start = stream.read(6)
    for mark, module in _COMPRESSED.items():
        if start.startswith(mark):
            with module.open(path) as opened:
                yield opened
            return
    if not start.startswith(b"PK\x03\x04"):
        with path.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if "[Content_Types].xml" in names:
            raise _unreadable(path, "a spreadsheet", fix="save the sheet as CSV in UTF-8")
        if len(names) != 1:
            raise _unreadable(path, f"a zip of {len(names)} files", fix="unpack it, and name the file you mean")
        # In memory: the lines will be, and a zip's member cannot be read from its start again in every version.
        yield BytesIO(archive.read(names[0]))


def _separator_of(header: str, path: Path) -> str:
    """Return what separates the names of a header, quoted ones left out of account."""
    bare = re.sub(r'"[^"]*"', "", header)
    by_ending = "\t" if {".tsv", ".data"} & set(path.suffixes) else ","
    return by_ending if by_ending in bare else max((by_ending, *_SEPARATORS), key=bare.count)


def _header(lines: list[str], dialect: dict[str, Any], path: Path) -> tuple[list[str], int]:
    """Return the column names and the position of the line after them."""
    start = next((position for position, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise _unreadable(path, "blank lines only")
    reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), **dialect)
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise _unreadable(path, f"line {start + 1}: {error}") from None
    if _BROKEN.search("".join(header)):
        raise _unreadable(path, f"line {start + 1}, the header, is not UTF-8")
    require_distinct(header, path)
    return header, start + reader.line_num


def require_distinct(names: list[str], path: Path) -> None:
    """Raise DataError where a file names a column twice."""
    repeated = [name or "(no name)" for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{path} names a column twice.",
            expected="distinct column names",
            got=", ".join(repeated),
            fix="rename or remove one of them",
        )


def _parse(lines: list[str], first: int, dialect: dict[str, Any], num_columns: int, into: _Rows) -> Iterator[int]:
    """Split lines into rows; `first` is where the next row begins. Yields now and then how far it is."""
    any_broken = any(not line.isascii() and _BROKEN.search(line) for line in lines)

    def set_aside(reason: str) -> None:
        into.bad.append((first + 1, reason, _shown(lines[first])))

    next_tick = first + _LINES_PER_TICK
    while first < len(lines):
        base = first
        reader = csv.reader(map(lines.__getitem__, range(base, len(lines))), **dialect)
        try:
            for cells in reader:
                after = base + reader.line_num
                if any_broken and _BROKEN.search("".join(cells)):
                    set_aside("broken UTF-8")
                elif len(cells) == num_columns:
                    into.cells.append(cells)
                    into.lines.append(first + 1)
                elif cells:
                    set_aside(f"wrong number of cells: expected {num_columns}, got {len(cells)}")
                    if after > first + 1:
                        # A stray quote has swallowed lines that may be fine: go on right after the first.
                        first += 1
                        break
                first = after
                if first >= next_tick:
                    next_tick += _LINES_PER_TICK
                    yield first
        except csv.Error as error:
            set_aside(f"broken quotes: {error}")
            first += 1


def _shown(line: str) -> str:
    text = line.rstrip("\n")[:_MAX_SHOWN]
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _unreadable(path: Path, got: str, fix: str = "") -> DataError:
    return DataError(
        f"{path} could not be read as delimited text.",
        expected="text in UTF-8 with a header line",
        got=got,
        fix=fix
        or "save the file as CSV in UTF-8, name its encoding (data.source.encoding: cp1252), or correct the path",
    )
