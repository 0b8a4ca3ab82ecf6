"""Files that may hold a person, by format: how many places, what stands there, and the file without them.

A change is written beside the file and takes its place by one rename: who reads the old file goes on reading it, and a
killed process leaves nothing half-written.
"""

from __future__ import annotations

import csv
import io
import json
import mmap
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import atomic_file, write_json
from lorefuse.core.schema import ROW_ID, ROW_TEXTS, USER_ID
from lorefuse.erasure.person import Person

SHADOW_FILE = "shadow.jsonl"
GONE = b"[forgotten]"
_NAMED = ("vocabularies.json", "serving.json", "features.json")
_TEXT_COLUMNS = (*ROW_TEXTS, "text")
_SQLITE, _PARQUET = b"SQLite format 3\0", b"PAR1"
_NUM_SHOWN = 1000


@dataclass(frozen=True)
class Holder:
    """How one format is searched.

    Attributes:
        kind: Its name.
        count: Places that hold the person.
        erase: Write the file without them; None where that is not ours to do.
        read: What stands there, JSON-able.
    """

    kind: str
    count: Callable[[Path, Person], int]
    erase: Callable[[Path, Person], None] | None
    read: Callable[[Path, Person], list[Any]]


def holder_of(path: Path) -> Holder:
    """Return how a file is searched: by its name where it is one of ours, else by what it begins with."""
    if path.name in _NAMED:
        return _NAMES
    if path.name == SHADOW_FILE:
        return _SHADOW
    if path.suffix == ".jsonl":
        return _LINES
    with path.open("rb") as stream:
        start = stream.read(len(_SQLITE))
    if start == _SQLITE:
        return _STORE if _tables(path) else RAW
    if start[:4] == _PARQUET:
        return _TABLE if USER_ID in _columns(path) else RAW
    if path.suffix in (".csv", ".tsv") and USER_ID in _csv_header(path):
        return _CSV
    return _TEXT if _is_text(path) else RAW


def texts_of(path: Path, person: Person) -> set[str]:
    """Return what a person has written, or a language model about them, in a table of ours."""
    if path.suffix != ".parquet" or USER_ID not in (names := _columns(path)):
        return set()
    columns = [name for name in _TEXT_COLUMNS if name in names]
    frame = _rows(path, person, [USER_ID, *columns]) if columns else None
    return set() if frame is None else {str(text) for name in columns for text in frame[name] if text}


# Parquet: rows with a column user_id.


def _columns(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names: list[str] = pq.read_schema(path).names
        return names
    except (pa.ArrowException, OSError):
        return []  # cut short; its bytes are searched


def _rows(path: Path, person: Person, columns: list[str] | None = None) -> Any:
    import pandas as pd

    return pd.read_parquet(path, columns=columns, filters=[(USER_ID, "in", list(person.names))])


def _count_rows(path: Path, person: Person) -> int:
    return len(_rows(path, person, [USER_ID]))


def _read_rows(path: Path, person: Person) -> list[Any]:
    return [json.loads(line) for line in _rows(path, person).to_json(orient="records", lines=True).splitlines()]


def _erase_rows(path: Path, person: Person) -> None:
    """Copy row group by row group; numbers of rows that begin at 0 and have no gap stay so."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file, number = pq.ParquetFile(path), 0
    is_numbered = path.name == "interactions.parquet" and ROW_ID in file.schema_arrow.names
    with atomic_file(path) as draft_path, pq.ParquetWriter(draft_path, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            kept = table.filter(pc.invert(pc.is_in(table[USER_ID].cast(pa.string()), pa.array(person.names))))
            if is_numbered:
                numbers = pa.array(np.arange(number, number + len(kept)))
                kept = kept.set_column(kept.schema.get_field_index(ROW_ID), kept.schema.field(ROW_ID), numbers)
                number += len(kept)
            writer.write_table(kept)


# Online features in SQLite: one table a view, with Feast's key of the entity.


def _tables(path: Path) -> list[str]:
    with closing(_open(path)) as connection:
        try:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            infos = {name: list(connection.execute(f"PRAGMA table_info({_quoted(name)})")) for name in names}
        except sqlite3.Error:
            return []  # damaged; its bytes are searched
    return [name for name, info in infos.items() if "entity_key" in {column[1] for column in info}]


def _open(path: Path) -> sqlite3.Connection:
    """Open a database to read; one that nobody writes to as it lies, or reading would leave files beside it."""
    still = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro{still}", uri=True)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _where(person: Person) -> str:
    return f"entity_key IN ({', '.join('?' * len(person.names))})"


def _cells(path: Path, person: Person) -> Iterator[tuple[str, str, bytes]]:
    with closing(_open(path)) as connection:
        for table in _tables(path):
            query = f"SELECT feature_name, value FROM {_quoted(table)} WHERE {_where(person)}"  # noqa: S608 (quoted)
            for name, value in connection.execute(query, person.entity_keys):
                yield table, name, value


def _read_cells(path: Path, person: Person) -> list[Any]:
    from feast.protos.feast.types.Value_pb2 import Value
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    return [
        {"view": table, "feature": name, "value": MessageToDict(Value.FromString(value))}
        for table, name, value in _cells(path, person)
    ]


def _erase_cells(path: Path, person: Person) -> None:
    with atomic_file(path) as draft_path:
        with closing(_open(path)) as source, closing(sqlite3.connect(draft_path)) as copy:
            source.backup(copy)
            with copy:
                for table in _tables(path):
                    copy.execute(f"DELETE FROM {_quoted(table)} WHERE {_where(person)}", person.entity_keys)  # noqa: S608
            copy.execute("PRAGMA journal_mode=DELETE")
            copy.execute("VACUUM")  # what was deleted would stay in free pages
        draft_path.chmod(path.stat().st_mode & 0o777)


# Names of users in a bundle or a served version.


def _scrubbed(path: Path, person: Person) -> tuple[Any, list[Any]]:
    """Return the content without the person, and what was there of them.

    In a vocabulary another text keeps the place, so that everybody's index stays; no request can ask for it.
    """
    content = json.loads(path.read_text("utf-8"))
    found: list[Any] = []
    words = [content[USER_ID]] if path.name == "vocabularies.json" and USER_ID in content else []
    words += [words for name, words in content.get("user_fields", ()) if name == USER_ID]
    for vocabulary in words:
        for place, name in enumerate(vocabulary):
            if name in person.names:
                vocabulary[place] = f"\0forgotten {place}"
                found.append({"vocabulary": USER_ID, "place": place})
    users = content.get("reference_users", [])
    found += [user for user in users if user[USER_ID] in person.names]
    if users:
        content["reference_users"] = [user for user in users if user[USER_ID] not in person.names]
    return content, found


def _erase_names(path: Path, person: Person) -> None:
    write_json(path, _scrubbed(path, person)[0])


# Text, line by line or as it comes.


def _lines(path: Path, is_about: Callable[[bytes], bool]) -> list[bytes]:
    with path.open("rb") as stream:
        return [line for line in stream if is_about(line)]


def _keep_lines(path: Path, is_about: Callable[[bytes], bool]) -> None:
    with atomic_file(path) as draft_path, path.open("rb") as stream, draft_path.open("wb") as draft:
        draft.writelines(line for line in stream if not is_about(line))


def _is_about(line: bytes, person: Person) -> bool:
    """Tell whether a JSON line says ``user_id`` of the person, or its text holds one of their names."""
    token = person.token
    if token is not None and token.search(line):
        return True
    try:
        content = json.loads(line)
    except ValueError:
        return False
    row = content.get("row", content) if isinstance(content, dict) else content
    if isinstance(row, str):
        return any(name in row for name in person.names)  # a line that cannot be read: rather one too many
    return isinstance(row, dict) and str(row.get(USER_ID)) in person.names


def _is_shadow(line: bytes, person: Person) -> bool:
    return any(name.encode() in line for name in person.shadow_names)


def _csv_header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        return next(csv.reader(stream, delimiter=_separator(path)), [])


def _separator(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _csv_rows(path: Path, person: Person) -> tuple[list[dict[str, str]], str]:
    """Return the person's rows, and the file without them."""
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=_separator(path))
        rows = list(reader)
        kept = io.StringIO()
        writer = csv.DictWriter(kept, reader.fieldnames or [], delimiter=_separator(path), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row in rows if row[USER_ID] not in person.names)
    return [row for row in rows if row[USER_ID] in person.names], kept.getvalue()


def _erase_csv(path: Path, person: Person) -> None:
    with atomic_file(path) as draft_path:
        draft_path.write_text(_csv_rows(path, person)[1], "utf-8")


def _is_text(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(1 << 16)
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(start) - error.start < 4 and b"\0" not in start  # cut inside a letter
    return b"\0" not in start


def _count_token(path: Path, person: Person) -> int:
    if person.token is None or not path.stat().st_size:
        return 0
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return sum(1 for _ in person.token.finditer(data))


def _redact(path: Path, person: Person) -> None:
    assert person.token is not None
    with atomic_file(path) as draft_path:
        draft_path.write_bytes(person.token.sub(GONE, path.read_bytes()))
        draft_path.chmod(path.stat().st_mode & 0o777)


def _mentions(path: Path, person: Person) -> list[Any]:
    return [{"mentions": _count_token(path, person)}]


_TABLE = Holder("table", _count_rows, _erase_rows, _read_rows)
_STORE = Holder("online store", lambda p, who: sum(1 for _ in _cells(p, who)), _erase_cells, _read_cells)
_NAMES = Holder("names", lambda p, who: len(_scrubbed(p, who)[1]), _erase_names, lambda p, who: _scrubbed(p, who)[1])
_CSV = Holder("table", lambda p, who: len(_csv_rows(p, who)[0]), _erase_csv, lambda p, who: list(_csv_rows(p, who)[0]))
_TEXT = Holder("text", _count_token, _redact, _mentions)
RAW = Holder("bytes", _count_token, None, _mentions)


def _of_lines(is_about: Callable[[bytes, Person], bool]) -> Holder:
    return Holder(
        "lines",
        lambda path, who: len(_lines(path, lambda line: is_about(line, who))),
        lambda path, who: _keep_lines(path, lambda line: is_about(line, who)),
        lambda path, who: [
            line.decode("utf-8", "replace").rstrip("\n") for line in _lines(path, lambda one: is_about(one, who))
        ][:_NUM_SHOWN],
    )


_LINES, _SHADOW = _of_lines(_is_about), _of_lines(_is_shadow)
