"""Amazon reviews, releases of 2018 and 2023.

Origin: Ni, Li and McAuley, "Justifying Recommendations using Distantly-Labeled Reviews and Fine-Grained Aspects"
(EMNLP 2019) for 2018; Hou et al., "Bridging Language and Items for Retrieval and Recommendation" (arXiv:2403.03952)
for 2023. Published for research without a licence that allows passing them on: they are fetched to the user's cache
and never committed. The publisher gives no checksums: what is fetched is checked against its
length, against gzip's own CRC, and from then on against the sha256 it had.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from lorefuse.config.sources import AmazonSource
from lorefuse.core.errors import DataError
from lorefuse.core.progress import track
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, REVIEW_TEXT, USER_ID, VALUE
from lorefuse.data.download import fetch_url
from lorefuse.data.json_lines import read_json_lines
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.tables import RawTables, Roles

ADDRESS = "https://mcauleylab.ucsd.edu/public_datasets/data"
SEPARATOR = "\x1f"
"""Joins the categories of a product: a category may hold any printable character."""
EVENT_FIELDS = {
    "2018": {USER_ID: "reviewerID", ITEM_ID: "asin", EVENT_TIMESTAMP: "unixReviewTime", VALUE: "overall"},
    "2023": {USER_ID: "user_id", ITEM_ID: "parent_asin", EVENT_TIMESTAMP: "timestamp", VALUE: "rating"},
}
ITEM_FIELDS = {
    "2018": {"title": "title", "brand": "brand", "description": "description", "main_category": "main_cat"},
    "2023": {"title": "title", "brand": "store", "description": "description", "main_category": "main_category"},
}
CATEGORIES_FIELD = {"2018": ("category", "categories"), "2023": ("categories",)}
ROLES = Roles(
    item_text=("title", "brand", "categories", "description"),
    item_title="title",
    item_categories=("brand", "main_category"),
    item_multi_categories=("categories",),
)
REVIEW_FIELDS = {"2018": ("summary", "reviewText"), "2023": ("title", "text")}
MAX_DESCRIPTION_CHARS, MAX_REVIEW_CHARS = 2000, 1000


def read_amazon(source: AmazonSource, quarantine: Quarantine) -> RawTables:
    """Read reviews and the products they are about.

    Products without a review are left out (the files list many); a reviewed product without metadata stays, with
    empty text. Both are counted in the manifest's reports.

    Args:
        source: Release, and a category or two paths.
        quarantine: Receives lines that cannot be read, with their numbers.

    Raises:
        DataError: A file is missing, damaged, or of the other release.
        UnreachableError: The publisher does not answer.
    """
    if source.reviews_path is not None and source.meta_path is not None:
        reviews_path, meta_path = source.reviews_path, source.meta_path
    else:
        reviews_path, meta_path = (fetch_url(url) for url in addresses(source))
    events = _events(reviews_path, source.release, quarantine, with_text=source.reviews)
    wanted = dict.fromkeys(events[ITEM_ID].dropna())
    items, num_unused = _items(meta_path, source.release, wanted, quarantine)
    known = set(items[ITEM_ID])
    without = [item for item in wanted if item not in known]
    blank = pd.DataFrame({ITEM_ID: without, LINE: 0}).reindex(columns=items.columns)
    return RawTables(
        interactions=events,
        items=pd.concat([items, blank.fillna("")], ignore_index=True) if without else items,
        users=None,
        triples=None,
        links=None,
        roles=ROLES,
        files={"interactions": reviews_path.name, "items": meta_path.name},
        source={"kind": source.kind, "release": source.release, "origin": [str(reviews_path), str(meta_path)]},
        timestamp_unit="s" if source.release == "2018" else "ms",
        multi_separator=SEPARATOR,
        reports={"num_items_without_meta": len(without), "num_meta_without_review": num_unused},
    )


def addresses(source: AmazonSource) -> tuple[str, str]:
    """Return the publisher's addresses of reviews and metadata of a category."""
    name = source.category
    if source.release == "2018":
        reviews = f"categoryFilesSmall/{name}_5.json.gz" if source.five_core else f"categoryFiles/{name}.json.gz"
        return f"{ADDRESS}/amazon_v2/{reviews}", f"{ADDRESS}/amazon_v2/metaFiles2/meta_{name}.json.gz"
    raw = f"{ADDRESS}/amazon_2023/raw"
    return f"{raw}/review_categories/{name}.jsonl.gz", f"{raw}/meta_categories/meta_{name}.jsonl.gz"


def _events(path: Path, release: str, quarantine: Quarantine, *, with_text: bool) -> pd.DataFrame:
    fields = EVENT_FIELDS[release]
    columns: dict[str, list[Any]] = {name: [] for name in [*fields, *([REVIEW_TEXT] if with_text else []), LINE]}
    for line, row in track(read_json_lines(path, quarantine), f"Reading {path.name}"):
        cells = {name: row.get(field) for name, field in fields.items()}
        wrong = next((fields[n] for n, cell in cells.items() if not isinstance(cell, str | int | float)), None)
        if wrong is not None:
            quarantine.add(path.name, line, f"no usable field: {wrong}", row)
            continue
        for name, cell in cells.items():
            columns[name].append(str(cell).strip())
        if with_text:
            said = (_text(row.get(field)) for field in REVIEW_FIELDS[release])
            columns[REVIEW_TEXT].append(". ".join(filter(None, said))[:MAX_REVIEW_CHARS])
        columns[LINE].append(line)
    if not columns[LINE]:
        raise DataError(
            f"{path} holds no review of the {release} release.",
            expected=f"objects with {', '.join(fields.values())}",
            got=quarantine.summary(path.name) or "no lines",
            fix="set data.source.release to that of the files: 2018 has reviewerID, 2023 has parent_asin",
        )
    return pd.DataFrame(columns)


def _items(path: Path, release: str, wanted: Iterable[str], quarantine: Quarantine) -> tuple[pd.DataFrame, int]:
    """Return the wanted products and the number of others."""
    key = EVENT_FIELDS[release][ITEM_ID]
    rows: list[dict[str, Any]] = []
    wanted, num_unused = set(wanted), 0
    for line, row in track(read_json_lines(path, quarantine), f"Reading {path.name}"):
        item_id = row.get(key)
        if not isinstance(item_id, str) or not item_id.strip():
            quarantine.add(path.name, line, f"no usable field: {key}", row)
        elif item_id.strip() not in wanted:
            num_unused += 1
        else:
            cells = {name: _text(row.get(field)) for name, field in ITEM_FIELDS[release].items()}
            cells["description"] = cells["description"][:MAX_DESCRIPTION_CHARS]
            categories: Any = next((row[field] for field in CATEGORIES_FIELD[release] if row.get(field)), [])
            joined = SEPARATOR.join(dict.fromkeys(_leaves(categories)))
            rows.append({ITEM_ID: item_id.strip(), **cells, "categories": joined, LINE: line})
    names = [ITEM_ID, *ITEM_FIELDS[release], "categories", LINE]
    return pd.DataFrame(rows, columns=names), num_unused


def _leaves(cell: Any) -> list[str]:
    """Return the texts of a cell that may be a text, a list, or (2014) a list of lists."""
    if isinstance(cell, list | tuple):
        return [leaf for part in cell for leaf in _leaves(part)]
    return [text] if (text := _text(cell)) else []


def _text(cell: Any) -> str:
    """Return plain text: entities like ``&amp;`` are resolved, lists joined by a space."""
    if isinstance(cell, list | tuple):
        return " ".join(_leaves(cell))
    return "" if cell is None else " ".join(html.unescape(str(cell)).split())
