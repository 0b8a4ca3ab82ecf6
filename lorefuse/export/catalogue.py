"""The catalogue of a bundle: which row is which item, what people read, and what one can filter by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorefuse.core.schema import ITEM_ID, Tensor

if TYPE_CHECKING:
    import pandas as pd

    from lorefuse.data.tables import Roles

CATALOGUE_FILE = "catalogue.parquet"
_TITLE, _FILTER_PREFIX = "title", "filter:"


def catalogue_frame(items: pd.DataFrame, roles: Roles, first_row: int = 0) -> pd.DataFrame:
    """Return the catalogue of some items.

    Args:
        items: item_id and the columns that the roles name.
        roles: Which column is the title, and which are categories.
        first_row: Row of the first item.

    Returns:
        catalogue_row, item_id, title, and a list of texts per item in each column to filter by: raw values, so that a
        category which training has not seen can still be filtered by.
    """
    import pandas as pd

    frame = pd.DataFrame(
        {
            Tensor.CATALOGUE_ROW.value: first_row + np.arange(len(items), dtype=np.int64),
            ITEM_ID: items[ITEM_ID].astype(str).to_numpy(),
            _TITLE: items[roles.item_title].fillna("").astype(str).to_numpy(),
        }
    )
    for name in roles.item_categories:
        frame[_FILTER_PREFIX + name] = [[value] if value else [] for value in items[name].fillna("").astype(str)]
    for name in roles.item_multi_categories:
        frame[_FILTER_PREFIX + name] = [sorted({str(value) for value in values if value}) for values in items[name]]
    return frame


def read_items(folder_path: Path) -> tuple[list[str], list[str]]:
    """Return item ids and titles of a bundle in order of their rows."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder_path / CATALOGUE_FILE, columns=[ITEM_ID, _TITLE])
    return table[ITEM_ID].to_pylist(), table[_TITLE].to_pylist()


def read_filters(folder_path: Path) -> dict[str, dict[str, list[int]]]:
    """Return what a bundle's catalogue can be filtered by: column → value → rows of the items that have it."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder_path / CATALOGUE_FILE)
    result: dict[str, dict[str, list[int]]] = {}
    for name in table.column_names:
        if name.startswith(_FILTER_PREFIX):
            rows_of = result.setdefault(name.removeprefix(_FILTER_PREFIX), {})
            for row, values in enumerate(table[name].to_pylist()):
                for value in values:
                    rows_of.setdefault(value, []).append(row)
    return result
