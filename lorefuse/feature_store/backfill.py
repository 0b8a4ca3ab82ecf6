"""Features of past days, computed anew: a Parquet file per range of days, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lorefuse.core.schema import EVENT_TIMESTAMP, LABEL, TEXT, VALUE, block_column, item_block
from lorefuse.data.dataset import Dataset
from lorefuse.feature_store.store import point_in_time
from lorefuse.features.build import read_views


def backfill_days(
    dataset: Dataset, feature_data_path: Path, store_path: Path, first: str, last: str, out_path: Path
) -> dict[str, Any]:
    """Join the interactions of some days (UTC) with the features of their own past, and their items' text vectors.

    Args:
        dataset: The dataset.
        feature_data_path: Names the views that there are.
        store_path: The feature store.
        first: First day.
        last: Last day, itself included.
        out_path: Empty folder; receives ``<first>_<last>.parquet``, with no rows where nothing happened.

    Returns:
        first, last, num_rows.

    Raises:
        DataError: The join lost a row, or found no features for one.
    """
    events = dataset.interactions()
    start, end = pd.Timestamp(first, tz="UTC"), pd.Timestamp(last, tz="UTC") + pd.Timedelta(days=1)
    inside = (events[EVENT_TIMESTAMP] >= start) & (events[EVENT_TIMESTAMP] < end)
    rows = events[inside]
    # Nothing to join would be nothing to name the columns by: one row stands in, and is left out again.
    asked = rows if len(rows) else events.head(1)
    table = point_in_time(store_path, asked)
    view, column = item_block(TEXT), block_column(TEXT)
    if view in read_views(feature_data_path)["views"]:
        text = point_in_time(store_path, asked, [f"{view}:{column}"])
        table = table.append_column(column, text[column])
    for name in (VALUE, LABEL):
        table = table.append_column(name, pa.array(asked[name].to_numpy(), pa.float32()))
    pq.write_table(table.slice(0, len(rows)), out_path / f"{first}_{last}.parquet")
    return {"first": first, "last": last, "num_rows": len(rows)}
