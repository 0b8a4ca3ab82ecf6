"""Raw tables by role: what every source hands to `ingest`, whatever format it came in."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Roles:
    """Which columns play which part; written into the manifest and read by every later stage.

    Attributes:
        item_text: Item columns that make up its text.
        item_title: Item column shown to people.
        item_categories: Item columns with one category each.
        item_multi_categories: Item columns with several categories.
        item_numerics: Item columns with a number.
        user_categories: User columns with one category each.
    """

    item_text: tuple[str, ...] = ()
    item_title: str = "item_id"
    item_categories: tuple[str, ...] = ()
    item_multi_categories: tuple[str, ...] = ()
    item_numerics: tuple[str, ...] = ()
    user_categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawTables:
    """Unvalidated tables with contract names for keys, each with the column `raw.LINE`.

    Attributes:
        interactions: user_id, item_id, event_timestamp, value: still text where the source is text.
        items: item_id and the columns the roles name; multi-categories as text joined by `multi_separator`.
        users: user_id and categories; None where the source has none.
        triples: head, relation, tail; None where there is no graph.
        links: item_id, entity_id; None where there is no graph.
        roles: The part each column plays.
        files: File name of each table, for the quarantine.
        source: Where it came from, for the manifest.
        timestamp_unit: Unit of a Unix time.
        multi_separator: Separator inside a multi-category cell.
        reports: Anything a source found out, for the manifest.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame | None
    triples: pd.DataFrame | None
    links: pd.DataFrame | None
    roles: Roles
    files: dict[str, str]
    source: dict[str, object]
    timestamp_unit: str = "auto"
    multi_separator: str = "|"
    reports: dict[str, object] = field(default_factory=dict)
