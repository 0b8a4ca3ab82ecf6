"""MovieLens 1M (``::``-separated, Latin-1) and 25M (CSV, UTF-8), read line by line.

Origin: Harper and Konstan, "The MovieLens Datasets", ACM TiiS 2015; grouplens.org/datasets/movielens. It may not be
redistributed: fetched to the user's cache, verified by the publisher's checksum, never committed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lorefuse.config.sources import MovieLensLargeSource
from lorefuse.core.progress import track
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, USER_ID, VALUE
from lorefuse.data.archives import open_member
from lorefuse.data.download import fetch_url
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.tables import RawTables, Roles

ADDRESS = "https://files.grouplens.org/datasets/movielens"
CHECKSUMS = {
    "movielens_1m": "md5:c4d9eecfca2ab87c1945afe126590906",
    "movielens_25m": "md5:6b51fb2759a8657d3bfcbfc42b592ada",
}
FILES = {
    "movielens_1m": {"interactions": "ratings.dat", "items": "movies.dat", "users": "users.dat"},
    "movielens_25m": {"interactions": "ratings.csv", "items": "movies.csv"},
}
NO_GENRES = "(no genres listed)"
OCCUPATIONS = (
    *("other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service"),
    *("doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer"),
    *("retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman"),
    *("unemployed", "writer"),
)
"""By the number in ``users.dat``, as its README lists them."""
AGES = {"1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+"}


def read_movielens_large(source: MovieLensLargeSource, quarantine: Quarantine) -> RawTables:
    """Read ratings, films and, in 1M, users.

    Args:
        source: Which set, where it lies, and how many of its users are wanted.
        quarantine: Receives lines with the wrong number of cells.

    Raises:
        ChecksumError: The archive differs from the publisher's checksum.
        DataError: The folder or zip lacks a file.
        UnreachableError: The publisher does not answer.
    """
    path = source.data_path or fetch_url(f"{ADDRESS}/{_stem(source.kind)}.zip", CHECKSUMS[source.kind])
    files = FILES[source.kind]
    keep = _drawn_users(path, source) if source.num_users else None
    events = _read(path, files["interactions"], [USER_ID, ITEM_ID, VALUE, EVENT_TIMESTAMP], quarantine, keep)
    films = _read(path, files["items"], [ITEM_ID, "name", "genres"], quarantine)
    users: pd.DataFrame | None = None
    user_categories: tuple[str, ...] = ()
    if "users" in files:
        users = _users(_read(path, files["users"], [USER_ID, "gender", "age", "occupation", "zip"], quarantine))
        user_categories = ("gender", "occupation", "age_bucket")
        if keep is not None:
            users = users[users[USER_ID].isin(keep)].reset_index(drop=True)
    return RawTables(
        interactions=events,
        items=_items(films),
        users=users,
        triples=None,
        links=None,
        roles=Roles(
            item_text=("title", "genres", "release_year"),
            item_title="title",
            item_categories=("release_decade",),
            item_multi_categories=("genres",),
            user_categories=user_categories,
        ),
        files=dict(files),
        source={"kind": source.kind, "origin": str(path), "num_users": source.num_users, "seed": source.seed},
        timestamp_unit="s",
    )


def _stem(kind: str) -> str:
    return kind.replace("movielens_", "ml-")


def _lines(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of a ``.dat`` or ``.csv`` member; the CSV's header is skipped."""
    with open_member(path, name) as raw:
        if name.endswith(".dat"):
            for line, text in enumerate(io.TextIOWrapper(raw, "latin-1"), start=1):
                if text.strip():
                    yield line, text.rstrip("\r\n").split("::")
        else:
            reader = csv.reader(io.TextIOWrapper(raw, "utf-8", errors="replace", newline=""))
            next(reader, None)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells


def _read(
    path: Path, name: str, columns: list[str], quarantine: Quarantine, keep: set[str] | None = None
) -> pd.DataFrame:
    """Read a member into columns of text; rows of users outside `keep` are passed over."""
    cells_by_column: dict[str, list[str]] = {column: [] for column in columns}
    lines: list[int] = []
    for line, cells in track(_lines(path, name), f"Reading {name}"):
        if keep is not None and cells[0] not in keep:
            continue
        quarantine.num_rows_read[name] += 1
        if len(cells) != len(columns):
            quarantine.add(name, line, f"wrong number of cells: {len(cells)}, expected {len(columns)}", cells)
            continue
        for column, cell in zip(columns, cells, strict=True):
            cells_by_column[column].append(cell)
        lines.append(line)
    return pd.DataFrame({**cells_by_column, LINE: lines}, dtype=object).astype({LINE: "int64"})


def _drawn_users(path: Path, source: MovieLensLargeSource) -> set[str]:
    """Draw users by the seed; the ratings are gone through once for their ids alone."""
    ids = dict.fromkeys(cells[0] for _, cells in _lines(path, FILES[source.kind]["interactions"]))
    names = sorted(ids)
    if source.num_users >= len(names):
        return set(names)
    rng = np.random.default_rng(source.seed)
    return {names[row] for row in rng.choice(len(names), source.num_users, replace=False)}


def _items(films: pd.DataFrame) -> pd.DataFrame:
    parts = films["name"].str.extract(r"^(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?\s*$")
    year = parts["year"].fillna("")
    return pd.DataFrame(
        {
            ITEM_ID: films[ITEM_ID],
            "title": parts["title"].fillna("").str.strip(),
            "genres": films["genres"].where(films["genres"] != NO_GENRES, ""),
            "release_year": year,
            "release_decade": (year.str[:3] + "0s").where(year != "", ""),
            LINE: films[LINE],
        }
    )


def _users(raw: pd.DataFrame) -> pd.DataFrame:
    names = {str(number): name for number, name in enumerate(OCCUPATIONS)}
    return pd.DataFrame(
        {
            USER_ID: raw[USER_ID],
            "gender": raw["gender"],
            "occupation": raw["occupation"].map(names).fillna(""),
            "age_bucket": raw["age"].map(AGES).fillna(""),
            LINE: raw[LINE],
        }
    )
