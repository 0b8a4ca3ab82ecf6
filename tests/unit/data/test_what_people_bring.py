"""Files as people have them, each read to the validated dataset with the right value, or refused with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorefuse.config import DataConfig, FileSource, LabelConfig
from lorefuse.core.errors import DataError
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.embedding.prompt import item_texts

HEADER = "user_id,item_id,rating,timestamp\n"
ROWS = HEADER + "u1,i1,5,1600000000\nu2,i2,1,1600000001\n"
ITEMS = "item_id,title\ni1,Tea\ni2,Coffee\ni3,Ice\n"
Content = str | bytes | pa.Table


@dataclass
class Brought:
    """What became of some files."""

    dataset: Dataset
    quarantined: dict[str, int]

    def cells(self, table: str, column: str) -> list[Any]:
        return getattr(self.dataset, table)()[column].tolist()  # type: ignore[no-any-return]

    @property
    def times(self) -> list[str]:
        return [time.isoformat() for time in self.dataset.interactions()["event_timestamp"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def bring(
    folder: Path,
    rows: Content = ROWS,
    items: Content = ITEMS,
    *,
    rows_name: str = "rows.csv",
    items_name: str = "items.csv",
    label: LabelConfig | None = None,
    **source: Any,
) -> Brought:
    paths = {"interactions_path": folder / rows_name, "items_path": folder / items_name}
    for path, content in zip(paths.values(), (rows, items), strict=True):
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    config = DataConfig(source=FileSource(**paths, **source), label=label or LabelConfig(), max_bad_share=0.7)
    (folder / "out").mkdir()
    manifest = ingest(config, folder / "out")
    return Brought(Dataset.open(folder / "out"), manifest["quarantined"])


def frame(**columns: Any) -> pd.DataFrame:
    times = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"])
    rows = {"user_id": ["a", "b", "a"], "item_id": ["i1", "i2", "i3"], "rating": [5, 1, 4], "timestamp": times}
    return pd.DataFrame({**rows, **columns})


IDS = [
    "007",
    "7",
    "1.10",
    " two words ",
    "x" * 1000,
    "пользователь",
    "用户",
    "👩‍🔬",
    "a,b",
    'say "hi"',
    "-1",
    "0x1F",
    "1e5",
]


@pytest.mark.parametrize("user_id", IDS)
def test_ids_stay_as_they_are(folder: Path, user_id: str) -> None:
    cell = '"' + user_id.replace('"', '""') + '"'
    brought = bring(folder, HEADER + f"{cell},i1,5,1\nother,i2,1,2\n", timestamp_unit="s")
    assert brought.cells("interactions", "user_id") == [user_id.strip(), "other"]


def test_numbers_in_one_file_and_text_in_the_other(folder: Path) -> None:
    rows = pa.table({"user_id": [1, 2], "item_id": [10, 20], "rating": [5, 1], "timestamp": [1, 2]})
    brought = bring(folder, rows, "item_id,title\n10,Tea\n20,Coffee\n", rows_name="rows.parquet", timestamp_unit="s")
    assert brought.cells("interactions", "item_id") == ["10", "20"] == brought.cells("items", "item_id")


def test_integers_that_an_empty_cell_made_floats(folder: Path) -> None:
    """pandas writes the whole column as ``10.0``; the other file, without an empty cell, as ``10``."""
    rows = HEADER + "1.0,10,5,1\n2.0,20,1,2\n,10,3,3\n"
    brought = bring(folder, rows, "item_id,title\n10.0,Tea\n20.0,Coffee\n,Ice\n", timestamp_unit="s")
    assert brought.cells("interactions", "user_id") == ["1", "2"]
    assert brought.cells("items", "item_id") == ["10", "20"]
    assert brought.quarantined == {"items.csv: empty id": 1, "rows.csv: empty id": 1}


def test_ids_that_look_like_versions_stay(folder: Path) -> None:
    brought = bring(folder, HEADER + "1.0,i1,5,1\n1.1,i2,1,2\n", timestamp_unit="s")
    assert brought.cells("interactions", "user_id") == ["1.0", "1.1"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("1600000000", "1600000001", "2020-09-13T12:26:40+00:00"),
        ("1600000000123", "1600000001000", "2020-09-13T12:26:40.123000+00:00"),
        ("1600000000.25", "1600000001.5", "2020-09-13T12:26:40.250000+00:00"),
        ("2020-01-01T00:00:00+02:00", "2020-01-01T00:00:00Z", "2019-12-31T22:00:00+00:00"),
        ("2020-01-01 10:30", "2020-01-02T11:45", "2020-01-01T10:30:00+00:00"),
        ("2020-01-01 10:30", "2020-01-02T11:45+01:00", "2020-01-01T10:30:00+00:00"),
        ("2020-01-01", "2020-01-02", "2020-01-01T00:00:00+00:00"),
        ("20200101", "20200102", "2020-01-01T00:00:00+00:00"),
        ("43831.5", "43833", "2020-01-01T12:00:00+00:00"),
        ("31/12/2019 10:00", "01/02/2020 09:00", "2019-12-31T10:00:00+00:00"),
        ("31.12.2019", "01.02.2020", "2019-12-31T00:00:00+00:00"),
        ("20191231.0", "20200101.0", "2019-12-31T00:00:00+00:00"),
        ("19123113", "20010107", "2019-12-31T13:00:00+00:00"),
        ("31122019", "01012020", "2019-12-31T00:00:00+00:00"),
        ("202010281246", "202010291300", "2020-10-28T12:46:00+00:00"),
        ("20201028124654", "20201029130000", "2020-10-28T12:46:54+00:00"),
        ("2019", "2020", "2019-01-01T00:00:00+00:00"),
        ("18262", "18263", "2020-01-01T00:00:00+00:00"),
        ("2020-10-28 12:46:54 UTC", "2020-10-29 00:00:00 GMT", "2020-10-28T12:46:54+00:00"),
        ("2020-10-28 12:46:54 +0200 UTC", "2020-10-29 00:00:00,5", "2020-10-28T10:46:54+00:00"),
        ("Sat Mar 16 10:00:00 -0700 2013", "Sun Mar 17 00:00:00 2013", "2013-03-16T17:00:00+00:00"),
        ("Sat, 16 Mar 2013 10:00:00 GMT", "17-Mar-2013", "2013-03-16T10:00:00+00:00"),
        ("March 16th, 2013 1:30 PM", "Mar 17, 2013", "2013-03-16T13:30:00+00:00"),
        ("12/31/2019 9:05 PM", "1/2/2020 9:00 AM", "2019-12-31T21:05:00+00:00"),
    ],
)
def test_times(folder: Path, first: str, second: str, expected: str) -> None:
    brought = bring(folder, HEADER + f'u1,i1,5,"{first}"\nu2,i2,1,"{second}"\n')
    assert brought.times[0] == expected
    assert brought.cells("interactions", "user_id") == ["u1", "u2"]


def test_dates_whose_day_nobody_can_tell_are_set_aside(folder: Path) -> None:
    with pytest.raises(DataError, match=r"timestamp cannot be read \(2\)"):
        bring(folder, HEADER + "u1,i1,5,01/02/2020\nu2,i2,1,03/04/2020\n")


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("x", "timestamp cannot be read"),
        ("5", "timestamp cannot be read"),
        ("1600000002000", "timestamp lies in the future"),
        ("20200913", "timestamp cannot be read"),
        ("44132.5", "timestamp cannot be read"),
        ("-5", "timestamp before 1970"),
    ],
)
def test_a_time_of_another_kind_is_set_aside(folder: Path, odd: str, reason: str) -> None:
    """Also among milliseconds, dates and days: the majority says what a column holds."""
    brought = bring(folder, HEADER + f"u1,i1,5,1600000000\nu2,i2,1,1600000001\nu1,i3,1,{odd}\n")
    assert brought.times == ["2020-09-13T12:26:40+00:00", "2020-09-13T12:26:41+00:00"]
    assert brought.quarantined == {f"rows.csv: {reason}": 1}


@pytest.mark.parametrize("others", [("1600000000000", "1600000001000"), ("20200913", "20200914"), ("44087", "44088.5")])
def test_seconds_among_other_kinds_are_set_aside(folder: Path, others: tuple[str, str]) -> None:
    brought = bring(folder, HEADER + f"u1,i1,5,{others[0]}\nu2,i2,1,{others[1]}\nu1,i3,1,1600000000\n")
    assert [time[:7] for time in brought.times] == ["2020-09", "2020-09"]
    assert sum(brought.quarantined.values()) == 1


@pytest.mark.parametrize("times", [("1", "2"), ("444444", "444445"), ("11122012", "10112012"), ("12:30", "13:30")])
def test_what_may_be_no_time_is_refused_with_what_can_be_read(folder: Path, times: tuple[str, str]) -> None:
    """Positions, hours, day and month of one size: as seconds all would lie in 1970."""
    with pytest.raises(DataError, match=r"cannot be read \(2\)(?s:.*)2020-10-28T12:46:54Z.*timestamp_unit: s"):
        bring(folder, HEADER + f"u1,i1,5,{times[0]}\nu2,i2,1,{times[1]}\n")


def test_equal_times_and_future_times(folder: Path) -> None:
    brought = bring(folder, HEADER + "u2,i1,5,1600000000\nu1,i2,1,1600000000\nu1,i3,1,9999999999\n")
    assert brought.cells("interactions", "user_id") == ["u1", "u2"]
    assert brought.quarantined == {"rows.csv: timestamp lies in the future": 1}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_seen_in_the_header_of_each_file(folder: Path, separator: str) -> None:
    brought = bring(folder, ROWS.replace(",", separator), 'item_id,title\ni1,"a;b|c"\ni2,d;e\n')
    assert brought.cells("interactions", "item_id") == ["i1", "i2"]
    assert brought.cells("items", "title") == ["a;b|c", "d;e"]


def test_a_header_keeps_what_its_ending_says(folder: Path) -> None:
    brought = bring(folder, items="item_id,title,a|b|c|d\ni1,Tea,x|y\ni2,Ice,\n", item_categories=("a|b|c|d",))
    assert brought.cells("items", "a|b|c|d") == ["x|y", ""]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_line_ends_and_lines_within_quotes(folder: Path, end: str) -> None:
    rows = "\ufeff" + ROWS.replace("\n", end) + end
    brought = bring(folder, rows, 'item_id,title\ni1,"Green\ntea, ""hot"""\ni2,Ice\n')
    assert brought.cells("interactions", "user_id") == ["u1", "u2"]
    assert brought.cells("items", "title")[0] == 'Green\ntea, "hot"'


def _zip(*names: str, content: str = ROWS) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv.gz", gzip.compress(ROWS.encode())),
        ("rows.csv", gzip.compress(ROWS.encode())),
        ("rows.csv.bz2", bz2.compress(ROWS.encode())),
        ("rows.csv.xz", lzma.compress(ROWS.encode())),
        ("rows.zip", _zip("folder/rows.csv", "__MACOSX/._rows.csv")),
        ("rows.csv.zip", _zip("rows.csv")),
    ],
    ids=["gz", "gz without its name", "bz2", "xz", "zip", "zip of one"],  # archives hold the time: no two workers agree
)
def test_compressed_files(folder: Path, name: str, content: bytes) -> None:
    assert bring(folder, content, rows_name=name).cells("interactions", "user_id") == ["u1", "u2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_zip("a.csv", "b.csv"), "a zip of 2 files"),
        (_zip("[Content_Types].xml", "xl/workbook.xml"), "(?s)a spreadsheet.*save the sheet as CSV"),
        (gzip.compress(ROWS.encode())[:-12], "could not be read"),
        (_zip("a.csv")[:40], "could not be read"),
    ],
    ids=["two files", "a spreadsheet", "gz cut short", "zip cut short"],
)
def test_archives_that_cannot_be_read(folder: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        bring(folder, content, rows_name="rows.zip")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1251", "shift_jis"])
def test_encodings(folder: Path, encoding: str) -> None:
    title = {"cp1251": "Чай", "shift_jis": "お茶"}.get(encoding, "Thé")
    told = {} if encoding in ("utf-8", "utf-8-sig", "utf-16") else {"encoding": encoding}
    brought = bring(folder, ROWS.encode(encoding), ITEMS.replace("Tea", title).encode(encoding), **told)
    assert brought.cells("items", "title") == [title, "Coffee", "Ice"]


def test_another_encoding_is_refused_with_the_key_that_names_it(folder: Path) -> None:
    with pytest.raises(DataError, match=r"data\.source\.encoding"):
        bring(folder, items="item_id,title\ni1,Thé\ni2,Café\n".encode("latin-1"))
    with pytest.raises(ValueError, match="there is no encoding 'lattin'"):
        FileSource(interactions_path=folder, items_path=folder, encoding="lattin")


@pytest.mark.parametrize(
    "columns",
    [
        {"user_id": pd.Categorical(["a", "b", "a"]), "item_id": pd.Categorical(["i1", "i2", "i3"])},
        {"rating": pd.Categorical([5, 1, 4])},
        {"rating": [Decimal("5.00"), Decimal("1"), Decimal("4")]},
        {"rating": pd.array([5, 1, 4], "Int64")},
        {"rating": ["5", "1", "4.0"]},
        {"timestamp": ["2020-01-01", "2020-01-02", "2020-01-03"]},
        {"timestamp": [18262 * 86400, 18263 * 86400, 18264 * 86400]},
    ],
    ids=lambda columns: ",".join(f"{name} {type(value).__name__}" for name, value in columns.items()),
)
def test_columns_of_parquet(folder: Path, columns: dict[str, Any]) -> None:
    brought = bring(folder, pa.Table.from_pandas(frame(**columns)), rows_name="rows.parquet")
    assert brought.cells("interactions", "user_id") == ["a", "b", "a"]
    assert brought.cells("interactions", "value") == [5, 1, 4]
    assert brought.times[0] == "2020-01-01T00:00:00+00:00"


@pytest.mark.parametrize("index", ["user_id", ["user_id", "item_id"], "timestamp"])
def test_an_index_of_pandas_is_a_column(folder: Path, index: Any) -> None:
    brought = bring(folder, pa.Table.from_pandas(frame().set_index(index)), rows_name="rows.pq")
    assert brought.cells("interactions", "user_id") == ["a", "b", "a"]


def test_parquet_by_another_name(folder: Path) -> None:
    brought = bring(folder, pa.Table.from_pandas(frame()), rows_name="rows.data")
    assert brought.cells("interactions", "value") == [5, 1, 4]


def test_nullable_integers(folder: Path) -> None:
    rows = frame(user_id=pd.array([1, None, 3], "Int64"), rating=pd.array([5, 4, 1], "Int64"))
    brought = bring(folder, pa.Table.from_pandas(rows), rows_name="rows.parquet")
    assert brought.cells("interactions", "user_id") == ["1", "3"]
    assert brought.quarantined == {"rows.parquet: empty id": 1}


def test_times_of_a_zone_are_moments(folder: Path) -> None:
    rows = frame()
    rows["timestamp"] = rows["timestamp"].dt.tz_localize("America/New_York")
    assert bring(folder, pa.Table.from_pandas(rows), rows_name="r.parquet").times[0] == "2020-01-01T05:00:00+00:00"


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([["a", "b"], [], None]),
        pa.array(["a|b", "", None]),
        pa.array([" a | b |", "|", " "]),
        pa.array(["['a', 'b']", "[]", None]),
        pa.array(['["a", "b"]', "[ ]", "[]"]),
    ],
    ids=["lists", "separated", "blanks", "Python", "JSON"],
)
def test_several_categories(folder: Path, cells: pa.Array) -> None:
    items = pa.table({"item_id": ["i1", "i2", "i3"], "title": ["t"] * 3, "genres": cells})
    brought = bring(folder, items=items, items_name="items.parquet", item_multi_categories=("genres",))
    assert [list(cell) for cell in brought.cells("items", "genres")] == [["a", "b"], [], []]


def test_a_list_as_text_keeps_the_separator_within_its_texts(folder: Path) -> None:
    items = 'item_id,title,genres\ni1,Tea,"[""x|y"", ""it\'s""]"\ni2,Ice,[broken\n'
    brought = bring(folder, items=items, item_multi_categories=("genres",))
    assert [list(cell) for cell in brought.cells("items", "genres")] == [["x|y", "it's"], ["[broken"]]


def test_titles_stay_as_they_are(folder: Path) -> None:
    titles = ["<b>Tea</b> &amp; milk 🍵", "Caf&eacute; <script>alert(1)</script>", "日本茶\u200b"]
    items = "item_id,title\n" + "".join(f"i{n},{title}\n" for n, title in enumerate(titles, start=1))
    brought = bring(folder, items=items)
    assert brought.cells("items", "title") == titles
    assert brought.dataset.manifest["reports"]["num_texts_with_tags"] == 2
    # What is embedded is what people read.
    texts = item_texts(brought.dataset.items(), ["title"], "default@1")
    assert texts == ["Title: Tea & milk 🍵.", "Title: Café.", "Title: 日本茶\u200b."]


def test_yes_and_no(folder: Path) -> None:
    rows = HEADER + "u1,i1,True,1\nu2,i2,false,2\n"
    assert bring(folder, rows, label=LabelConfig(threshold=1), timestamp_unit="s").cells("interactions", "label") == [
        1,
        0,
    ]


def test_one_user_and_one_item(folder: Path) -> None:
    brought = bring(folder, HEADER + "u,i1,5,1\nu,i1,1,2\n", "item_id,title\ni1,Tea\n", timestamp_unit="s")
    assert brought.cells("users", "user_id") == ["u"]
    assert brought.cells("interactions", "label") == [1, 0]


def test_one_class_is_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)same label.*values from 5 to 5.*data\.negatives\.num_train"):
        bring(folder, HEADER + "u1,i1,5,1\nu2,i2,5,2\n", timestamp_unit="s")


def test_negative_ratings(folder: Path) -> None:
    brought = bring(folder, HEADER + "u1,i1,-3,1\nu2,i2,2,2\n", label=LabelConfig(threshold=0), timestamp_unit="s")
    assert brought.cells("interactions", "value") == [-3, 2]
    assert brought.cells("interactions", "label") == [0, 1]


def test_repeated_rows_unknown_items_and_items_never_seen(folder: Path) -> None:
    brought = bring(folder, ROWS + "u1,i1,5,1600000000\nu1,gone,5,1600000002\n")
    assert brought.quarantined == {"rows.csv: duplicate interaction": 1, "rows.csv: unknown item id": 1}
    assert brought.cells("interactions", "item_id") == ["i1", "i2"]
    assert brought.cells("items", "item_id") == ["i1", "i2", "i3"]


def table(**columns: Any) -> pa.Table:
    """Three interactions with some columns as Arrow has them."""
    rows = {"user_id": ["a", "b", "a"], "item_id": ["i1", "i2", "i3"], "rating": [5, 1, 4]}
    return pa.table({**rows, "timestamp": ["2020-01-01", "2020-01-02", "2020-01-03"], **columns})


EXACT = [1234567890123456789, None, 1234567890123456788]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array(EXACT, pa.int64()), ["1234567890123456789", "1234567890123456788"]),
        (pa.array([2**64 - 1, None, 2**64 - 2], pa.uint64()), ["18446744073709551615", "18446744073709551614"]),
        (pa.array([Decimal("25.00"), None, Decimal("26.00")], pa.decimal128(20, 2)), ["25", "26"]),
        (pa.array([Decimal(EXACT[0] or 0), None, Decimal(EXACT[2] or 0)]), [str(EXACT[0]), str(EXACT[2])]),
        (pa.array([b"\xc3\xa9", None, b"b"], pa.binary()), ["é", "b"]),
        (pa.array([b"ab", None, b"cd"], pa.binary(2)), ["ab", "cd"]),
        (pa.array([b"ab", None, b"cd"]).dictionary_encode(), ["ab", "cd"]),
    ],
    ids=["int64", "uint64", "decimal", "decimal of 19 digits", "binary", "binary of a width", "coded binary"],
)
def test_ids_beside_an_empty_cell_are_exact(folder: Path, cells: pa.Array, expected: list[str]) -> None:
    brought = bring(folder, table(user_id=cells), rows_name="rows.parquet", label=LabelConfig(kind="regression"))
    assert brought.cells("interactions", "user_id") == expected
    assert brought.quarantined == {"rows.parquet: empty id": 1}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (pa.array([bytes(range(200, 216))] * 3, pa.binary(16)), "bytes that are no UTF-8 text"),
        (pa.array([{"a": 1}] * 3), "structures"),
        (pa.array([["a"]] * 3), "lists"),
        (pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())), "lists|maps"),
    ],
    ids=["bytes", "structures", "lists", "maps"],
)
def test_columns_that_are_no_ids_are_named_with_their_type(folder: Path, cells: pa.Array, kind: str) -> None:
    with pytest.raises(DataError, match=f"'user_id' holds (?:{kind})"):
        bring(folder, table(user_id=cells), rows_name="rows.parquet")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (pa.array([b"\xe9t\xe9", b"b", b"c"]), "bytes that are no UTF-8 text"),
        (pa.array([{"en": "x"}] * 3), "structures"),
        (pa.array([[{"name": "War"}]] * 3), "structures"),
    ],
    ids=["bytes", "structures", "lists of structures"],
)
@pytest.mark.parametrize("role", ["item_text", "item_categories", "item_multi_categories"])
def test_columns_of_items_that_are_no_text_are_named(folder: Path, cells: pa.Array, kind: str, role: str) -> None:
    items = pa.table({"item_id": ["i1", "i2", "i3"], "title": ["a", "b", "c"], "extra": cells})
    with pytest.raises(DataError, match=f"'extra' holds {kind}"):
        bring(folder, items=items, items_name="items.parquet", **{role: ("extra",)})


def test_lists_of_lists_are_their_parts(folder: Path) -> None:
    items = pa.table({"item_id": ["i1", "i2"], "title": ["a", "b"], "genres": [[["War", "Drama"], ["War"]], []]})
    brought = bring(folder, items=items, items_name="items.parquet", item_multi_categories=("genres",))
    assert [list(cell) for cell in brought.cells("items", "genres")] == [["War", "Drama", "War"], []]


def test_lists_in_a_column_of_one_category(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A list of one is that one; several count as one category, and whoever runs it is told."""
    items = "item_id,title,genre\ni1,Tea,\"['War']\"\ni2,Ice,\"['War', 'Drama']\"\ni3,Ale,[]\n"
    brought = bring(folder, items=items, item_categories=("genre",))
    assert brought.cells("items", "genre") == ["War", "War, Drama", ""]
    assert "data.source.item_multi_categories" in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("4,5", "1", [4.5, 1]),
        ("1.234,5", "1.200", [1234.5, 1200]),
        ("1,234.50", "1,200", [1234.5, 1200]),
        ("1,234,567", "1,200", [1234567, 1200]),
        ("$3.50", "12 €", [3.5, 12]),
        ("1 234,5", "1'200", [1234.5, 1200]),
        ("50%", "0.5", [50, 0.5]),
        ("1e3", "-2", [1000, -2]),
    ],
)
def test_numbers_of_other_places(folder: Path, first: str, second: str, expected: list[float]) -> None:
    items = f"item_id;title;price\ni1;Tea;{first}\ni2;Ice;{second}\ni3;Ale;\n"
    brought = bring(folder, items=items, item_numerics=("price",))
    assert brought.cells("items", "price")[:2] == expected
    assert brought.quarantined == {}


def test_ratings_with_a_comma(folder: Path) -> None:
    rows = "user_id;item_id;rating;timestamp\nu1;i1;4,5;1600000000\nu2;i2;1,0;1600000001\n"
    assert bring(folder, rows).cells("interactions", "value") == [4.5, 1]


@pytest.mark.parametrize("cells", [("1,200", "2,300"), ("4,5", "4.5")], ids=["thousands or decimals", "both"])
def test_numbers_that_may_be_two_are_none(folder: Path, cells: tuple[str, str]) -> None:
    items = f"item_id;title;price\ni1;Tea;{cells[0]}\ni2;Ice;{cells[1]}\ni3;Ale;1\n"
    brought = bring(folder, items=items, item_numerics=("price",))
    assert pd.isna(brought.cells("items", "price")[0])


def test_a_wrong_number_costs_its_cell_alone(folder: Path) -> None:
    brought = bring(folder, items="item_id,title,price\ni1,Tea,call us\ni2,Ice,2\n", item_numerics=("price",))
    assert brought.cells("items", "item_id") == ["i1", "i2"]
    assert pd.isna(brought.cells("items", "price")[0])
    assert brought.quarantined == {"items.csv: price is not a finite number": 1}
    assert brought.cells("interactions", "item_id") == ["i1", "i2"]


@pytest.mark.parametrize("cell", ["x" * 200_000, '"' + "line\n" * 40_000 + '"'], ids=["one line", "many lines"])
def test_a_long_cell_is_a_cell(folder: Path, cell: str) -> None:
    brought = bring(folder, items=f"item_id,title\ni1,{cell}\ni2,Ice\n")
    assert [len(title) > 190_000 for title in brought.cells("items", "title")] == [True, False]
    assert brought.quarantined == {}


def test_a_repeat_of_another_value_keeps_the_highest(folder: Path) -> None:
    rows = HEADER + "u1,i1,1,1600000000\nu1,i1,5,1600000000\nu1,i1,5,1600000000\nu2,i2,1,1600000001\n"
    brought = bring(folder, rows)
    assert brought.cells("interactions", "value") == [5, 1]
    assert brought.quarantined == {"rows.csv: duplicate interaction": 2}


def test_texts_that_are_all_empty_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    bring(folder, items="item_id,title\ni1,\ni2, \n")
    assert "no item has a text in 'title'" in caplog.text


@pytest.mark.parametrize(("here", "there"), [("3.0", "3"), ("3", "003"), ("ab", "AB")])
def test_ids_written_otherwise_are_told(folder: Path, here: str, there: str) -> None:
    with pytest.raises(DataError, match=f"'{here}' in rows.csv and '{there}' in items.csv: write them alike"):
        bring(folder, HEADER + f"u1,{here},5,1600000000\nu2,x,1,1600000001\n", f"item_id,title\n{there},Tea\n")


def test_events_with_names_have_values(folder: Path) -> None:
    rows = HEADER + "u1,i1,buy,1600000000\nu2,i2,view,1600000001\nu2,i3,hover,1600000002\n"
    brought = bring(folder, rows, event_values={"view": 1, "buy": 5})
    assert brought.cells("interactions", "value") == [5, 1]
    assert brought.quarantined == {"rows.csv: value is not a finite number": 1}
    (folder / "out").rename(folder / "before")
    with pytest.raises(DataError, match=r"data\.source\.event_values: \{view: 1, buy: 5\}"):
        bring(folder, rows)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress], ids=["plain", "gz", "bz2"])
def test_json_lines(folder: Path, compress: Any) -> None:
    rows = '{"user_id": 1234567890123456789, "item_id": "i1", "rating": 5, "timestamp": 1600000000}\nbroken\n'
    rows += '{"item_id": "i2", "rating": 1, "timestamp": 1600000001, "user_id": 2, "more": null}\n'
    items = '\ufeff{"item_id": "i1", "title": "Tea", "genres": ["a", "b"]}\n{"item_id": "i2", "title": "Ice"}\n'
    names = {"rows_name": "rows.jsonl", "items_name": "items.json", "item_multi_categories": ("genres",)}
    brought = bring(folder, compress(rows.encode()), items, **names)
    assert brought.cells("interactions", "user_id") == ["1234567890123456789", "2"]
    assert [list(cell) for cell in brought.cells("items", "genres")] == [["a", "b"], []]
    assert brought.quarantined == {"rows.jsonl: not JSON": 1}


def test_a_json_list_is_refused_with_what_to_write(folder: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)holds one JSON list.*lines=True"):
        bring(folder, '[{"user_id": "u1"}]', rows_name="rows.json")


def test_ids_that_nobody_could_ask_for_are_set_aside(folder: Path) -> None:
    long = "ж" * 1024
    brought = bring(folder, ROWS + f"{long},i1,1,1600000002\n{long}x,i1,1,1600000003\n")
    assert brought.cells("interactions", "user_id") == ["u1", "u2", long]
    assert brought.quarantined == {"rows.csv: id longer than 1,024 characters": 1}


@pytest.mark.parametrize(
    ("cell", "title", "written"),
    [
        (r'"a \"b\", c"', 'a "b", c', {"escape": "\\"}),
        ("'it, too'", "it, too", {"quote": "'"}),
        ("'it''s, too'", "it's, too", {"quote": "'"}),
        ('12" disc', '12" disc', {}),
        ('"12 disc', '"12 disc', {"quote": None}),
        (r"a\, b", "a, b", {"quote": None, "escape": "\\"}),
    ],
)
def test_cells_are_quoted_as_one_says(folder: Path, cell: str, title: str, written: dict[str, Any]) -> None:
    brought = bring(folder, items=f"item_id,title\ni1,{cell}\ni2,Ice\n", **written)
    assert brought.cells("items", "title") == [title, "Ice"]


def test_broken_quotes_are_refused_with_the_keys_to_set(folder: Path) -> None:
    with pytest.raises(DataError, match=r"data\.source\.quote, data\.source\.escape"):
        bring(folder, items='item_id,title\ni1,"a \\"b\\", c"\ni2,"d \\"e"\n')
