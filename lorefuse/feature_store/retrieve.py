"""From the feature store to a training set: every interaction joined with the features of its own past.

Rows may be many: what is joined is written into the arrays of the training set and let go, column by column.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lorefuse.core.schema import CONTEXT_TEXT, EVENT_TIMESTAMP, ITEM_ID, ROW_ID, USER_ID, View
from lorefuse.data.dataset import Dataset
from lorefuse.data.negatives import read_negatives
from lorefuse.data.split import load_split
from lorefuse.feature_store.store import point_in_time
from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC
from lorefuse.features.build import TABLES_FILE, history_of
from lorefuse.features.context import context_rows
from lorefuse.features.interactions import InteractionRows
from lorefuse.features.prior import ItemPrior
from lorefuse.features.rows import item_numeric_now
from lorefuse.features.vocabulary import load_vocabularies, save_user_values
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec
from lorefuse.training_set.vectors import ItemVectors


def retrieve_training_set(
    dataset: Dataset,
    split_path: Path,
    vectors: ItemVectors,
    feature_data_path: Path,
    store_path: Path,
    out_path: Path,
) -> dict[str, Any]:
    """Join every interaction with the features of its own past and write the training set.

    Args:
        dataset: The dataset.
        split_path: Parts of the rows.
        vectors: Knowledge of every item.
        feature_data_path: Encoded tables, prior and spec.
        store_path: Where the features are.
        out_path: Empty folder to fill.

    Returns:
        Row counts.

    Raises:
        DataError: The join lost or repeated a row, or found no features for one.
        ConfigError: The offline store is one whose join would let a label see itself.
    """
    from safetensors.numpy import load_file

    spec, prior = FeatureSpec.load(feature_data_path), ItemPrior.load(feature_data_path)
    interactions = InteractionRows.of(dataset, load_split(split_path)[0])
    pa.default_memory_pool().release_unused()  # of the frames that the rows were made of
    item_now = item_numeric_now(history_of(interactions, spec.label_kind), prior)
    num_states = len(interactions.label)
    rows = interactions.with_negatives(dataset, read_negatives(split_path))
    del interactions
    user_numeric, item_numeric, user_interest = _joined_states(
        store_path, _events(dataset, rows, slice(num_states)), vectors, spec
    )
    if len(rows.label) > num_states:
        # A negative shares its positive's user and moment, so only its item's features are to be joined.
        negatives = _events(dataset, rows, slice(num_states, None))
        of_item = point_in_time(store_path, negatives, [f"{View.ITEM_STATS}:{name}" for name in ITEM_NUMERIC])
        item_numeric = np.concatenate([item_numeric, _matrix(of_item, ITEM_NUMERIC)[0]])
    training_set = TrainingSet(
        spec=spec,
        user_row=rows.user_row,
        item_row=rows.item_row,
        timestamp_us=rows.timestamp_us,
        value=rows.value,
        label=rows.label,
        split_code=rows.split_code,
        cold=rows.cold,
        state_row=rows.state_row,
        user_numeric=user_numeric,
        item_numeric=item_numeric,
        user_interest=user_interest,
        user_history=np.zeros((num_states, 0), np.int32),
        knowledge=vectors.knowledge,
        item_numeric_now=item_now,
        **load_file(str(feature_data_path / TABLES_FILE)),
    )
    training_set.check()
    training_set.save(out_path)
    # The first field is the id.
    save_user_values(load_vocabularies(feature_data_path), [field.name for field in spec.user_fields[1:]], out_path)
    return {
        "num_rows": training_set.num_rows,
        "num_users": len(training_set.user_fields),
        "num_items": vectors.num_items,
    }


def _events(dataset: Dataset, rows: InteractionRows, part: slice) -> pd.DataFrame:
    """Return some rows as entity rows: who took, or might have taken, what, and when; ids as categories."""
    times = pd.Series(rows.timestamp_us[part].view("datetime64[us]"), copy=False).dt.tz_localize("UTC")
    row_ids = np.arange(len(rows.label), dtype=np.int64)[part]
    frame = pd.DataFrame({ROW_ID: row_ids, EVENT_TIMESTAMP: times}, copy=False)
    sides = ((USER_ID, rows.user_row, dataset.users()), (ITEM_ID, rows.item_row, dataset.items()))
    for name, codes, table in sides:
        frame[name] = pd.Categorical.from_codes(codes[part], pd.Index(table[name]))  # type: ignore[arg-type]
    return frame


def _joined_states(
    store_path: Path, events: pd.DataFrame, vectors: ItemVectors, spec: FeatureSpec
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return user_numeric, item_numeric and user_interest of interactions."""
    joined = point_in_time(store_path, events).drop_columns(list(events.columns))
    num_rows = len(events)
    del events
    user_numeric, joined = _matrix(joined, USER_NUMERIC)
    item_numeric, joined = _matrix(joined, ITEM_NUMERIC)
    interest = np.zeros((num_rows, sum(facet.dim for facet in spec.interest)), dtype=np.float32)
    start = 0
    for facet in spec.interest:
        end = start + facet.dim
        if facet.name == CONTEXT_TEXT:
            interest[:, start:end] = context_rows(vectors)
        else:
            _fill(interest[:, start:end], joined[facet.name])
            joined = joined.drop_columns([facet.name])
        start = end
    return user_numeric, item_numeric, interest


def _matrix(joined: pa.Table, names: Sequence[str]) -> tuple[NDArray[np.float32], pa.Table]:
    """Return columns as (rows, columns), and the table without them."""
    matrix = np.empty((joined.num_rows, len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        matrix[:, place] = joined[name].to_numpy()
        joined = joined.drop_columns([name])
        pa.default_memory_pool().release_unused()
    return matrix, joined


def _fill(matrix: NDArray[np.float32], lists: pa.ChunkedArray) -> None:
    """Write a column of lists into (rows, dim): chunk by chunk, without a Python list per row."""
    start = 0
    for chunk in lists.chunks:
        end = start + len(chunk)
        matrix[start:end] = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
        start = end
