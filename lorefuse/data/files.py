"""The user's own CSV or Parquet files, with a mapping of their columns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from lorefuse.config import FileSource
from lorefuse.core.errors import ConfigError
from lorefuse.core.schema import (
    CONTEXT_TEXT,
    ENTITY_ID,
    EVENT_TIMESTAMP,
    HEAD,
    ITEM_ID,
    RELATION,
    REVIEW_TEXT,
    TAIL,
    USER_ID,
    VALUE,
)
from lorefuse.data.cells import refuse_structures
from lorefuse.data.ids import as_ids
from lorefuse.data.names import item_names, report_renamed, user_names
from lorefuse.data.quarantine import LINE, Quarantine
from lorefuse.data.raw import read_table, require_columns
from lorefuse.data.tables import RawTables, Roles

ORDER_START_S = 946_684_800
"""2000-01-01 UTC: where the pseudo-time of data that has only an order begins."""
TRIPLE, LINK = [HEAD, RELATION, TAIL], [ITEM_ID, ENTITY_ID]


def read_files(source: FileSource, quarantine: Quarantine, *, interactions: bool = True) -> RawTables:
    """Read the tables that the mapping names.

    Args:
        source: Paths and column names.
        quarantine: Receives lines that cannot be read at all.
        interactions: False leaves them out, for `large.write_interactions` to read in batches.

    Raises:
        ConfigError: The mapping contradicts itself.
        DataError: A file is missing, empty or unreadable, or lacks a mapped column.
    """
    _check_mapping(source)
    files = _names_of(source)

    def read(field: str, columns: list[str]) -> pd.DataFrame:
        path = getattr(source, f"{field}_path")
        frame = read_table(path, quarantine, source.delimiter, name=files[field], **written_as(source))
        columns = list(dict.fromkeys(columns))
        require_columns(frame, columns, path)
        for column in columns:
            refuse_structures(frame[column], path)
        return frame

    items_named, users_named = names_of(source)
    time = source.order or source.timestamp
    texts = [column for _, column in _row_texts(source)]
    wanted = [source.user_id, source.item_id, time, *([source.value] if source.value else []), *texts]
    raw = read("items", [source.item_id, *items_named])
    items = _entities(raw, source.item_id, ITEM_ID, items_named, source.items_path)
    users = triples = links = None
    if source.users_path:
        raw = read("users", [source.user_id, *users_named])
        users = _entities(raw, source.user_id, USER_ID, users_named, source.users_path)
    if source.triples_path and source.links_path:
        triples = _keys_as_text(read("triples", TRIPLE), TRIPLE, source.triples_path)
        links = _keys_as_text(read("links", LINK), LINK, source.links_path)
    return RawTables(
        interactions=events_of(read("interactions", wanted), source) if interactions else pd.DataFrame(),
        items=items,
        users=users,
        triples=triples,
        links=links,
        roles=roles_of(source),
        files=files,
        source={"kind": "files", **{name: str(path) for name, path in paths_of(source).items()}},
        timestamp_unit="s" if source.order else source.timestamp_unit,
        multi_separator=source.multi_separator,
        reports=report_renamed(items_named, users_named),
    )


def written_as(source: FileSource) -> dict[str, str | None]:
    """Return how the source's CSV files are written, for `read_table`."""
    return {"encoding": source.encoding, "quote": source.quote, "escape": source.escape}


def paths_of(source: FileSource) -> dict[str, Path]:
    """Return the paths the source names, by field."""
    return {
        name: path for name in type(source).model_fields if name.endswith("_path") and (path := getattr(source, name))
    }


def names_of(source: FileSource) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names inside Lorefuse of the items' and of the users' columns, by their names in the files.

    A text or title that is the id itself is no column beside it.
    """
    fields = [*source.item_categories, *source.item_multi_categories]
    title = [source.item_title] if source.item_title else []
    texts = [name for name in (*source.item_text, *title) if name != source.item_id]
    items = item_names(dict.fromkeys([*texts, *fields, *source.item_numerics]))
    return items, user_names(dict.fromkeys(source.user_categories), {items[name] for name in fields})


def roles_of(source: FileSource) -> Roles:
    """Return the part each mapped column plays, by its name inside Lorefuse."""
    items, users = names_of(source)
    texts = {**items, source.item_id: ITEM_ID}
    title = source.item_title or (source.item_text[0] if source.item_text else source.item_id)
    return Roles(
        item_text=tuple(texts[name] for name in source.item_text),
        item_title=texts[title],
        item_categories=tuple(items[name] for name in source.item_categories),
        item_multi_categories=tuple(items[name] for name in source.item_multi_categories),
        item_numerics=tuple(items[name] for name in source.item_numerics),
        user_categories=tuple(users[name] for name in source.user_categories),
    )


def _check_mapping(source: FileSource) -> None:
    if source.user_categories and not source.users_path:
        raise ConfigError(
            "data.source.user_categories names columns of a file that is not given.",
            expected="data.source.users_path",
            got=f"user_categories {', '.join(source.user_categories)}",
            fix="name the users file, or leave user_categories out",
        )
    if bool(source.triples_path) != bool(source.links_path):
        raise ConfigError(
            "A knowledge graph needs its triples and the links from items to entities.",
            expected="data.source.triples_path and data.source.links_path",
            got="triples_path alone" if source.triples_path else "links_path alone",
            fix="name both files, or neither",
        )
    parts = {"item_categories": source.item_categories, "item_multi_categories": source.item_multi_categories}
    parts |= {"item_numerics": source.item_numerics}
    named = Counter(column for columns in parts.values() for column in columns)
    for column, count in named.items():
        if count > 1:
            raise ConfigError(
                f"The item column {column!r} is named twice.",
                expected=f"each column once in {', '.join(f'data.source.{part}' for part in parts)}",
                got=", ".join(part for part, columns in parts.items() for name in columns if name == column),
                fix="leave it where it belongs: one category, several, or a number",
            )


def _names_of(source: FileSource) -> dict[str, str]:
    """Return what each table's file is called in the quarantine: its name, or its path where two names are equal."""
    paths = {field.removesuffix("_path"): path for field, path in paths_of(source).items()}
    shared = Counter(path.name for path in paths.values())
    return {field: path.name if shared[path.name] == 1 else f"{field}: {path}" for field, path in paths.items()}


def events_of(raw: pd.DataFrame, source: FileSource) -> pd.DataFrame:
    """Return interactions under their contract names, with `raw.LINE`: ids as text, the rest as it came."""
    return pd.DataFrame(
        {
            USER_ID: as_ids(raw[source.user_id], source.interactions_path),
            ITEM_ID: as_ids(raw[source.item_id], source.interactions_path),
            EVENT_TIMESTAMP: _pseudo_time(raw[source.order]) if source.order else raw[source.timestamp],
            VALUE: _values(raw[source.value], source.event_values) if source.value else 1.0,
            **{name: raw[column] for name, column in _row_texts(source)},
            LINE: raw[LINE],
        }
    )


def _values(cells: pd.Series, event_values: dict[str, float]) -> pd.Series:
    """Give named events their values."""
    if not event_values:
        return cells
    return cells.map(lambda cell: event_values.get(str(cell).strip(), cell), na_action="ignore").astype(object)


def _row_texts(source: FileSource) -> list[tuple[str, str]]:
    """Return the texts that interactions have: contract name, column."""
    mapped = {REVIEW_TEXT: source.review_text, CONTEXT_TEXT: source.context_text}
    return [(name, column) for name, column in mapped.items() if column]


def _pseudo_time(order: pd.Series) -> pd.Series:
    """Turn a user's order into Unix time: position p is p seconds after `ORDER_START_S`.

    Times then compare within a user as the order does. Between users they say only that one is as far into their
    history as the other: what was known "at that time" about an item is what people that far in had done.
    """
    numbers = pd.to_numeric(order, errors="coerce")
    return numbers.astype("float64") + ORDER_START_S


def _entities(raw: pd.DataFrame, key: str, name: str, columns: dict[str, str], path: Path) -> pd.DataFrame:
    named = {inner: raw[column] for column, inner in columns.items()}
    return pd.DataFrame({name: as_ids(raw[key], path), **named, LINE: raw[LINE]})


def _keys_as_text(raw: pd.DataFrame, columns: list[str], path: Path) -> pd.DataFrame:
    return pd.DataFrame({**{column: as_ids(raw[column], path) for column in columns}, LINE: raw[LINE]})
