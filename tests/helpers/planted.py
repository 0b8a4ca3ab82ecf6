"""Ids that look like nothing else, and a search for them through every byte of a folder, opened and as it lies."""

from __future__ import annotations

import gzip
import io
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

MAIL, PHONE = "{}.zq7@planted.example", "+49 1517 {:06d}"
NEEDLES = ("zq7", "planted.example", "+49 1517")
"""What every planted id holds one of."""


def plant(users: pd.Series) -> pd.Series:
    """Turn ``u17`` into a mail address or a telephone number."""
    numbers = users.str.removeprefix("u").astype(int)
    return numbers.map(lambda n: PHONE.format(n) if n % 2 else MAIL.format(f"Anna{n}"))


def places(folder_path: Path, needles: Iterable[str] = NEEDLES) -> list[str]:
    """Return ``file: needle`` wherever a file's name, its bytes, or what is packed in it holds a needle."""
    wanted = [needle.lower().encode() for needle in needles]
    found = []
    for path in sorted(p for p in folder_path.rglob("*") if p.is_file()):
        contents = [str(path.relative_to(folder_path)).encode(), *_contents(path.read_bytes(), path)]
        found += [f"{path}: {one.decode()}" for one in wanted if any(one in content.lower() for content in contents)]
    return found


def _contents(data: bytes, path: Path) -> Iterator[bytes]:
    yield data
    if data.startswith(b"PAR1"):
        frame = pq.ParquetFile(io.BytesIO(data)).read().to_pandas()
        yield "\n".join(" ".join(map(str, row)) for row in frame.to_numpy().tolist()).encode()
    elif data.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            yield "\n".join(connection.iterdump()).encode("utf-8", "replace")
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in names:
                for row in connection.execute(f'SELECT * FROM "{name}"'):
                    yield b" ".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)
    elif data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield archive.read(name)
