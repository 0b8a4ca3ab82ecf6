"""New snapshots on top of a filled feature store: what happened since, in the meaning the served model knows.

The snapshots count every row there is: the online store says what is known now. The model's vectors, vocabularies and
prior stay its own. A snapshot is written where it is later than the store's cutoff, so a row that arrived late (older
than the cutoff) is counted with its user's or item's next row.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lorefuse.config import PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import UsageError
from lorefuse.core.schema import COLD, EVENT_TIMESTAMP, ITEM_ID, ROW_ID, SPLIT, USER_ID, Split, View
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import FACTS_FILE, SPLIT_FILE
from lorefuse.feature_store import online
from lorefuse.feature_store.materialize import definitions_path, fill
from lorefuse.feature_store.new_entities import Extended
from lorefuse.features.build import VIEWS_FILE, build_feature_data, read_views

ATTRIBUTE_VIEWS = (View.USER_ATTRIBUTES, View.ITEM_ATTRIBUTES)


def build_update(
    dataset: Dataset, num_known: dict[str, int], extended: Extended, since: str, config: PipelineConfig, out_path: Path
) -> dict[str, Any]:
    """Write the sources of every view as of now.

    Args:
        dataset: The grown dataset.
        num_known: Users and items that the model's dataset holds, by ``user`` and ``item``.
        extended: The model's inputs for all of them.
        since: Data cutoff of the store, ISO 8601; attributes of new users and items are stamped right after it.
        config: Shrinkages, folds, label.
        out_path: Empty folder to fill: `views.json` and `sources/`, nothing that a model could be trained with.

    Returns:
        Snapshots after the cutoff, by view.
    """
    with tempfile.TemporaryDirectory() as folder:
        _all_known(dataset, Path(folder))
        built_path = Path(folder) / "built"
        built_path.mkdir()
        build_feature_data(dataset, Path(folder), extended.vectors, config, built_path)
        shutil.copytree(built_path / "sources", out_path / "sources")
        content = read_views(built_path)
    write_json(out_path / VIEWS_FILE, content)
    cutoff = pd.Timestamp(since)
    counts, static_views = {}, {*ATTRIBUTE_VIEWS, *extended.spec.knowledge_tensors}
    for view, facts in content["views"].items():
        path = out_path / "sources" / f"{view}.parquet"
        table = pq.read_table(path)
        key = USER_ID if facts["entity"] == "user" else ITEM_ID
        if view == View.ITEM_STATS:
            table = _with_prior(table, dataset, extended)
        if view in static_views:
            ids = dataset.users()[USER_ID] if facts["entity"] == "user" else dataset.items()[ITEM_ID]
            table = _stamped(table, key, set(ids[num_known[facts["entity"]] :]), cutoff)
        pq.write_table(table, path)
        stamps = table[EVENT_TIMESTAMP].to_numpy().astype("datetime64[us]")
        counts[view] = int((stamps > np.datetime64(cutoff.tz_convert(None), "us")).sum())
    return counts


def update_store(feature_data_path: Path, store_path: Path, since: str, out_path: Path) -> dict[str, Any]:
    """Materialise what is later than a store's cutoff, and nothing older.

    A store of files is copied and the copy updated, so the one that serves is never half-way. A store on servers is
    updated where it is: its project goes on serving, and each value changes from one snapshot to a later one.

    Args:
        feature_data_path: Folder of `build_update`; its place is written into the registry, so it must stay.
        store_path: The filled store.
        since: Its data cutoff, ISO 8601.
        out_path: Empty folder to fill.

    Returns:
        Names of the views.

    Raises:
        UsageError: There is no `feature_repo/`, or the store has no files.
        UnreachableError: A server does not answer.
    """
    files = [path for path in store_path.iterdir() if path.is_file() and not path.name.startswith(".")]
    if not files:
        raise UsageError(f"{store_path} holds no feature store.", fix="build it: lorefuse run")
    for path in files:
        shutil.copyfile(path, out_path / path.name)
    # Feast's interval is open at its start; the store's last snapshot stands a microsecond after the cutoff.
    start = pd.Timestamp(since) + pd.Timedelta(microseconds=1)
    return {"views": fill(online.repo_config(out_path), definitions_path(), feature_data_path, start)}


def _all_known(dataset: Dataset, folder_path: Path) -> None:
    """Write a split in which every row is known."""
    events = dataset.interactions()
    frame = pd.DataFrame({ROW_ID: events[ROW_ID], SPLIT: str(Split.TRAIN), COLD: False})
    frame.to_parquet(folder_path / SPLIT_FILE, index=False)
    write_json(folder_path / FACTS_FILE, {"data_cutoff": events[EVENT_TIMESTAMP].max().isoformat()})


def _with_prior(table: pa.Table, dataset: Dataset, extended: Extended) -> pa.Table:
    rows = pd.Index(dataset.items()[ITEM_ID]).get_indexer(table[ITEM_ID].to_pandas())
    values = pa.array(extended.prior.values[rows], pa.float32())
    return table.set_column(table.schema.get_field_index("item_prior"), "item_prior", values)


def _stamped(table: pa.Table, key: str, new_ids: set[str], cutoff: pd.Timestamp) -> pa.Table:
    """Stamp what is known of new users or items so that it counts as news."""
    is_new = table[key].to_pandas().isin(new_ids)
    times = table[EVENT_TIMESTAMP].to_pandas().mask(is_new, cutoff + pd.Timedelta(microseconds=2))
    kind = table.schema.field(EVENT_TIMESTAMP).type
    place = table.schema.get_field_index(EVENT_TIMESTAMP)
    return table.set_column(place, EVENT_TIMESTAMP, pa.array(times, kind))
