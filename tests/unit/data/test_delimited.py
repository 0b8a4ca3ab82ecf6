"""Delimited text: a bad line costs itself alone, and every row knows its line."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorefuse.core.errors import DataError
from lorefuse.data.delimited import Delimited, read_delimited

HEADER = b"u,i,t\n"


def read(tmp_path: Path, content: bytes, name: str = "f.csv", delimiter: str | None = None) -> Delimited:
    path = tmp_path / name
    path.write_bytes(content)
    return read_delimited(path, delimiter)


def bad_lines(table: Delimited) -> list[tuple[int, str]]:
    return [(line, reason.partition(":")[0]) for line, reason, _ in table.bad]


@pytest.mark.parametrize(
    ("body", "lines", "bad"),
    [
        (b"a,b,1\nc,d,2\n", [2, 3], []),
        (b"a,b,1\nc,d,2", [2, 3], []),
        (b"a,b,1\nx,y\nc,d,2\n", [2, 4], [(3, "wrong number of cells")]),
        (b"x\na,b,1,2\nc,d,2\n", [4], [(2, "wrong number of cells"), (3, "wrong number of cells")]),
        (b"a,b,1\n\n\nc,d,2\n\nx,y\ne,f,3\n", [2, 5, 8], [(7, "wrong number of cells")]),
        (b'a,"b\nb",1\nc,d,2\nx\n', [2, 4], [(5, "wrong number of cells")]),
        (b"a,b,1\r\nx\r\nc,d,2\r\n", [2, 4], [(3, "wrong number of cells")]),
        (b"a,b,1\nc,\xff\xfe,2\ne,f,3\n", [2, 4], [(3, "broken UTF-8")]),
        (b'a,b,1\nc,"d,2\ne,f,3\n', [2, 4], [(3, "broken quotes")]),
        (b'a,b,1\nc,"d" x,2\ne,f,3\n', [2, 4], [(3, "broken quotes")]),
        (b'a,5" disk,1\n', [2], []),
        ("a,é\ufffd,1\n".encode(), [2], []),
    ],
)
def test_lines_are_physical_and_bad_ones_set_aside(
    tmp_path: Path, body: bytes, lines: list[int], bad: list[tuple[int, str]]
) -> None:
    table = read(tmp_path, HEADER + body)
    assert table.lines.tolist() == lines
    assert bad_lines(table) == bad


def test_a_stray_quote_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    rows = b"".join(b"u%d,i,%d\n" % (n, n) for n in range(50_000))
    half = rows.index(b"u25000,")
    table = read(tmp_path, HEADER + rows[:half] + b'x,"y,1\n' + rows[half:])
    assert len(table.lines) == 50_000
    assert bad_lines(table) == [(25_002, "broken quotes")]
    assert table.lines[-1] == 50_002


def test_broken_bytes_are_shown_readably(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER + b"a,b,1\nc,\xff,2\n").bad == [(3, "broken UTF-8", "c,\ufffd,2")]


def test_an_empty_cell_is_none(tmp_path: Path) -> None:
    table = read(tmp_path, HEADER + b'a,,1\nb,"",2\n')
    assert table.columns["i"].tolist() == [None, None]


def test_a_byte_order_mark_and_spaces_are_no_part_of_a_name(tmp_path: Path) -> None:
    assert list(read(tmp_path, b"\xef\xbb\xbfu, i ,t\na,b,1\n").columns) == ["u", "i", "t"]


@pytest.mark.parametrize(
    ("name", "delimiter", "content"),
    [
        ("f.tsv", None, b"u\ti\na\tb,c\n"),
        ("f.csv", ";", b"u;i\na;b,c\n"),
        ("f.tsv.gz", None, gzip.compress(b"u\ti\na\tb,c\n", mtime=0)),
    ],
)
def test_delimiters_and_compression(tmp_path: Path, name: str, delimiter: str | None, content: bytes) -> None:
    table = read(tmp_path, content, name, delimiter)
    assert {key: cells.tolist() for key, cells in table.columns.items()} == {"u": ["a"], "i": ["b,c"]}


@pytest.mark.parametrize(
    ("content", "name", "got"),
    [
        (b"u,\xff\na,b\n", "f.csv", "not UTF-8"),
        (b"\n \n", "f.csv", "blank lines only"),
        (b'u,"i\na,b\n', "f.csv", "line 1"),
        (b"u,u\na,b\n", "f.csv", "u"),
        (b"\x1f\x8bnot gzip", "f.csv.gz", ""),
        (gzip.compress(b"u,i\n" + b"a,b\n" * 9999, mtime=0)[:60], "f.csv.gz", "end"),
        (gzip.compress(b"u,i\na,b\n", mtime=0)[:-12] + b"\x00" * 12, "f.csv.gz", ""),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, name: str, got: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, name)
    assert got in (caught.value.got or "")
    assert caught.value.expected
    assert caught.value.fix


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=6)
GOOD = st.tuples(CELL, CELL, CELL)


@given(rows=st.lists(st.one_of(GOOD, st.just("one,two"), st.just(b"a,\xc3,b"), st.just("")), max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mix_of_rows_is_read_back_with_its_lines(
    tmp_path: Path, rows: list[tuple[str, str, str] | str | bytes]
) -> None:
    content, line, good, lines, bad = HEADER, 2, [], [], []
    for row in rows:
        if isinstance(row, tuple):
            buffer = io.StringIO()
            csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(row)
            text = buffer.getvalue().encode()
            good.append([cell or None for cell in row])
            lines.append(line)
        else:
            text = (row if isinstance(row, bytes) else row.encode()) + b"\n"
            if row:
                bad.append(line)
        content += text
        line += text.count(b"\n")
    table = read(tmp_path, content)
    assert [list(row) for row in zip(*table.columns.values(), strict=True)] == good
    assert table.lines.tolist() == lines
    assert [number for number, _, _ in table.bad] == bad
