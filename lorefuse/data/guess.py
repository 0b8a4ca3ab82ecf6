"""A first configuration for files that nobody has described yet, from the names of their columns and a look at cells.

What is guessed is written into a file that the user reads and corrects; nothing else depends on it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse.core.errors import DataError
from lorefuse.data.categories import several
from lorefuse.data.delimited import open_bytes
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.raw import begins_like_parquet, read_table

NUM_SAMPLE_ROWS = 500
NAMES = {
    "user_id": ("userid", "user", "customerid", "customer", "visitorid", "visitor", "reviewerid", "memberid", "uid"),
    "item_id": (
        "itemid", "item", "productid", "product", "sku", "asin", "parentasin", "movieid", "articleid", "newsid",
        "bookid", "trackid", "songid", "postid", "videoid", "contentid", "iid",
    ),
    "timestamp": (
        "timestamp", "eventtimestamp", "eventtime", "time", "datetime", "createdat", "created", "ts", "date",
        "unixreviewtime", "reviewtime",
    ),
    "value": ("rating", "stars", "overall", "score", "value", "event", "eventtype", "action", "clicked", "label"),
}  # fmt: skip
"""What columns are usually called, without case and signs; the first that is there counts."""
_TITLES = ("title", "name", "productname", "itemname", "headline")
_TEXTS = ("description", "subtitle", "abstract", "summary", "text", "body", "overview")
_CATEGORIES = ("brand", "category", "genre", "type", "department", "topic", "author", "artist", "color", "colour")
_SEVERAL = ("genres", "tags", "categories", "topics", "keywords", "labels")
_USER_CATEGORIES = ("gender", "sex", "country", "city", "region", "language", "occupation", "agegroup", "segment")
_NUMERICS = ("price", "year", "releaseyear", "length", "duration")


def read_sample(path: Path, num_rows: int = NUM_SAMPLE_ROWS) -> pd.DataFrame:
    """Return the first rows of a file as `read_table` reads them, without reading the rest.

    Raises:
        DataError: The file is missing, empty or unreadable.
    """
    if path.is_file() and begins_like_parquet(path):
        import pyarrow.parquet as pq

        batch = next(pq.ParquetFile(path).iter_batches(num_rows), None)
        return pd.DataFrame() if batch is None else batch.to_pandas()
    if not path.is_file() or not path.stat().st_size:
        return read_table(path, Quarantine()).drop(columns=LINE)  # says what is wrong
    with tempfile.TemporaryDirectory() as folder:
        head_path = Path(folder) / f"head{path.suffix if path.suffix in ('.tsv', '.data') else '.csv'}"
        with open_bytes(path) as stream, head_path.open("wb") as head:
            for line in islice(stream, num_rows):
                head.write(line)
        return read_table(head_path, Quarantine(), name=path.name).drop(columns=LINE)


def guess_data(
    interactions_path: Path, items_path: Path, users_path: Path | None, given: Mapping[str, str]
) -> dict[str, Any]:
    """Return the section `data` for some files: the columns that could be recognised, and what counts as a like.

    Args:
        interactions_path: CSV, JSON lines or Parquet.
        items_path: Likewise.
        users_path: Likewise; None where there is none.
        given: Key of `data.source` → column, where the user has said which it is.

    Raises:
        DataError: A file cannot be read, or who, what or when is in no column with a usual name.
    """
    events, items = read_sample(interactions_path), read_sample(items_path)
    source: dict[str, Any] = {"kind": "files", "interactions_path": str(interactions_path)}
    source |= {"items_path": str(items_path)} | ({"users_path": str(users_path)} if users_path else {})
    for key in ("user_id", "item_id", "timestamp"):
        source[key] = _require(given.get(key), key, events, interactions_path)
    value = source["value"] = given.get("value") or _first(events.columns, NAMES["value"])
    if value and (names := _event_names(events[value])):
        source["event_values"] = dict.fromkeys(names, 1)
    _require(source["item_id"], "item_id", items, items_path)
    source |= _item_columns(items.drop(columns=source["item_id"]), items_path)
    if users_path:
        users = read_sample(users_path)
        _require(source["user_id"], "user_id", users, users_path)
        source["user_categories"] = _all(users.columns, _USER_CATEGORIES)
    kept = {key: content for key, content in source.items() if content or key == "value"}
    return {"source": kept, **_likes(events[value] if value and "event_values" not in source else None)}


def _likes(values: pd.Series | None) -> dict[str, Any]:
    """Return what counts as a like; where all there is are things that people took, negatives are sampled."""
    numbers = pd.Series(dtype=float) if values is None else pd.to_numeric(values, errors="coerce").dropna()
    if numbers.nunique() < 2:
        return {"label": {"kind": "binary", "threshold": 1}, "negatives": {"num_train": 4, "num_eval": 20}}
    highest = float(numbers.max())
    if highest > 5:
        return {"label": {"kind": "binary", "threshold": round(0.7 * highest)}}
    return {"label": {"kind": "binary", "threshold": 4 if highest > 2 else 1}}


def _item_columns(items: pd.DataFrame, path: Path) -> dict[str, Any]:
    title = _first(items.columns, _TITLES)
    texts = [*([title] if title else []), *_all(items.columns, _TEXTS)]
    if not texts:
        raise DataError(
            f"{path} has no column that looks like a title or a text.",
            expected=f"one called {', '.join((*_TITLES, *_TEXTS)[:8])} …",
            got=", ".join(map(str, items.columns)),
            fix="write the configuration by hand: data.source.item_text names the columns",
        )
    return {
        "item_text": texts,
        "item_categories": _all(items.columns, _CATEGORIES),
        "item_multi_categories": (lists := _all(items.columns, _SEVERAL)),
        "multi_separator": _separator(items[lists]) if lists else "",
        "item_numerics": [name for name in _all(items.columns, _NUMERICS) if _is_number(items[name])],
    }


def _separator(lists: pd.DataFrame) -> str:
    """Return what parts several categories in a cell; empty where it is the default, or nothing does."""
    cells = [cell for name in lists for cell in lists[name].dropna().tolist() if isinstance(cell, str)]
    counts = {sign: sum(len(several(cell, sign)) - 1 for cell in cells) for sign in ("|", ";", ",")}
    best = max(counts, key=lambda sign: counts[sign])
    return "" if best == "|" or not counts[best] else best


def _event_names(cells: pd.Series) -> list[str]:
    """Return the names in a column of events; none where it holds numbers."""
    known = cells.dropna().astype(str)
    return [] if pd.to_numeric(known, errors="coerce").notna().mean() > 0.5 else sorted(known.unique())[:20]


def _is_number(cells: pd.Series) -> bool:
    known = cells.dropna()
    return bool(len(known)) and bool(pd.to_numeric(known, errors="coerce").notna().mean() > 0.9)


def _require(given: str | None, key: str, frame: pd.DataFrame, path: Path) -> str:
    name = given or _first(frame.columns, NAMES[key])
    if name is None or name not in frame.columns:
        option = f"--{key.replace('_', '-')}"
        raise DataError(
            f"{path} has no column {name!r}." if name else f"No column of {path} looks like {key}.",
            expected=name or f"one called {', '.join(NAMES[key][:6])} …",
            got=", ".join(map(str, frame.columns)) or "no rows",
            fix=f"say which it is: {option} COLUMN; it is the same in all files",
        )
    return name


def _first(columns: Sequence[str] | pd.Index[Any], names: Sequence[str]) -> str | None:
    known = {_bare(column): str(column) for column in reversed(list(columns))}
    return next((known[name] for name in names if name in known), None)


def _all(columns: Sequence[str] | pd.Index[Any], names: Sequence[str]) -> list[str]:
    return [str(column) for column in columns if _bare(column) in names]


def _bare(column: object) -> str:
    """``Created_At`` and ``created at`` → ``createdat``; after a colon stands a type, as in RecBole's files."""
    return re.sub(r"[^a-z0-9]", "", str(column).partition(":")[0].lower())
