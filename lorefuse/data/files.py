"""The user's own CSV or Parquet files, with a mapping of their columns."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lorefuse import contract as c
from lorefuse.config import FileSource
from lorefuse.data.raw import LINE, Quarantine, read_table, require_columns
from lorefuse.data.tables import RawTables, Roles


def read_files(source: FileSource, quarantine: Quarantine) -> RawTables:
    """Read the tables that the mapping names.

    Args:
        source: Paths and column names.
        quarantine: Receives lines that cannot be read at all.

    Raises:
        DataError: A file is missing, empty or unreadable, or lacks a mapped column.
    """
    interactions = read_table(source.interactions_path, quarantine, source.delimiter)
    wanted = [source.user_id, source.item_id, source.timestamp, *([source.value] if source.value else [])]
    require_columns(interactions, wanted, source.interactions_path)
    events = pd.DataFrame(
        {
            c.USER_ID: as_ids(interactions[source.user_id]),
            c.ITEM_ID: as_ids(interactions[source.item_id]),
            c.EVENT_TIMESTAMP: interactions[source.timestamp],
            c.VALUE: interactions[source.value] if source.value else 1.0,
            LINE: interactions[LINE],
        }
    )
    files = {"interactions": source.interactions_path.name, "items": source.items_path.name}
    users = triples = links = None
    if source.users_path:
        files["users"] = source.users_path.name
        raw = read_table(source.users_path, quarantine, source.delimiter)
        require_columns(raw, [source.user_id, *source.user_categories], source.users_path)
        users = _entities(raw, source.user_id, c.USER_ID, source.user_categories)
    if source.triples_path:
        files["triples"] = source.triples_path.name
        triples = read_table(source.triples_path, quarantine, source.delimiter)
        require_columns(triples, [c.HEAD, c.RELATION, c.TAIL], source.triples_path)
    if source.links_path:
        files["links"] = source.links_path.name
        links = read_table(source.links_path, quarantine, source.delimiter)
        require_columns(links, [c.ITEM_ID, c.ENTITY_ID], source.links_path)
        links[c.ITEM_ID] = as_ids(links[c.ITEM_ID])
    return RawTables(
        interactions=events,
        items=_read_items(source, quarantine),
        users=users,
        triples=triples,
        links=links,
        roles=roles_of(source),
        files=files,
        source={"kind": "files", **{name: str(path) for name, path in paths_of(source).items()}},
        timestamp_unit=source.timestamp_unit,
        multi_separator=source.multi_separator,
    )


def paths_of(source: FileSource) -> dict[str, object]:
    """Return the paths the source names, by field."""
    return {
        name: path for name in type(source).model_fields if name.endswith("_path") and (path := getattr(source, name))
    }


def roles_of(source: FileSource) -> Roles:
    """Return the part each mapped column plays."""
    return Roles(
        item_text=source.item_text,
        item_title=source.item_title or (source.item_text[0] if source.item_text else c.ITEM_ID),
        item_categories=source.item_categories,
        item_multi_categories=source.item_multi_categories,
        item_numerics=source.item_numerics,
        user_categories=source.user_categories,
    )


def as_ids(cells: pd.Series) -> pd.Series:
    """Turn ids into text; whole numbers lose a ``.0`` that a Parquet column of floats may have."""
    if pd.api.types.is_float_dtype(cells):
        cells = cells.astype("Int64")
    present = cells.notna()
    return cells.astype(str).str.strip().astype(object).where(present, None)


def _read_items(source: FileSource, quarantine: Quarantine) -> pd.DataFrame:
    raw = read_table(source.items_path, quarantine, source.delimiter)
    roles = roles_of(source)
    columns = dict.fromkeys(
        [*roles.item_text, roles.item_title, *roles.item_categories, *roles.item_multi_categories, *roles.item_numerics]
    )
    columns.pop(source.item_id, None)
    columns.pop(c.ITEM_ID, None)
    require_columns(raw, [source.item_id, *columns], source.items_path)
    return _entities(raw, source.item_id, c.ITEM_ID, tuple(columns), source.multi_separator)


def _entities(raw: pd.DataFrame, key: str, name: str, columns: tuple[str, ...], separator: str = "|") -> pd.DataFrame:
    table = pd.DataFrame({name: as_ids(raw[key])})
    for column in columns:
        cells = raw[column]
        lists = cells.map(lambda cell: isinstance(cell, list | tuple | np.ndarray))
        table[column] = cells.map(lambda cell: separator.join(map(str, cell))) if lists.any() else cells
    table[LINE] = raw[LINE]
    return table
