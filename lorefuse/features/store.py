"""Feast: apply the definitions, fill the online store, join point in time.

A feature store is a folder with ``registry.db`` and ``online_store.db``, made whole in one rename; its sources are the
Parquet files of a feature data folder. Layout of ``online_store.db``, which the served feature model reads directly:
one table per view, named ``lorefuse_<view>``, with the columns ``entity_key`` (Feast's key bytes, serialization version
3), ``feature_name`` and ``value`` (a serialized ``feast.types.Value``).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse import contract as c
from lorefuse.contract import View
from lorefuse.data.dataset import Dataset
from lorefuse.data.negatives import read_negatives
from lorefuse.data.split import load_split
from lorefuse.errors import ArtifactError, DataError, UsageError
from lorefuse.features import aggregates as a
from lorefuse.features.build import TABLES_FILE, history_of, read_views
from lorefuse.features.frame import Rows
from lorefuse.features.prior import ItemPrior
from lorefuse.features.rows import item_numeric_now
from lorefuse.features.spec import FeatureSpec, InterestFacet
from lorefuse.features.training_set import TrainingSet
from lorefuse.knowledge.item_vectors import ItemVectors
from lorefuse.settings import settings

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore

PROJECT = "lorefuse"
REGISTRY_FILE, ONLINE_FILE = "registry.db", "online_store.db"


def open_store(store_path: Path) -> FeatureStore:
    """Open a feature store folder with Feast's SDK."""
    import feast

    os.environ.setdefault("FEAST_USAGE", "False")
    config = feast.RepoConfig(
        project=PROJECT,
        provider="local",
        registry=str(store_path / REGISTRY_FILE),
        online_store={"type": "sqlite", "path": str(store_path / ONLINE_FILE)},
        offline_store={"type": "lorefuse.features.asof_store.AsofOfflineStore"},
        entity_key_serialization_version=3,
        repo_path=str(settings().project_path / "feature_repo"),
    )
    return feast.FeatureStore(config=config)


def apply_and_materialize(feature_data_path: Path, store_path: Path) -> dict[str, Any]:
    """Apply `feature_repo/` to a new registry and fill a new online store with the latest snapshots.

    Args:
        feature_data_path: Feature data folder; its place is written into the registry, so it must stay.
        store_path: Empty folder to fill.

    Returns:
        Names of the views.

    Raises:
        UsageError: There is no `feature_repo/` in the project.
        ArtifactError: The feature data folder holds no views.
    """
    repo_path = settings().project_path / "feature_repo"
    if not (repo_path / "rec_views.py").is_file():
        raise UsageError(
            f"There are no feature definitions in {repo_path}.", fix="run inside a checkout, or set LOREFUSE_PROJECT"
        )
    cutoff = pd.Timestamp(read_views(feature_data_path)["data_cutoff"])
    store = open_store(store_path)
    with _definitions(repo_path, feature_data_path) as modules:
        services = [modules["rec_services"].training, modules["rec_services"].serving_user]
        views = modules["rec_views"].feature_views
        entities = [modules["rec_entities"].user, modules["rec_entities"].item]
        store.apply([*entities, *views.values(), *services])
    # The first snapshots stand at the epoch itself, the last ones a microsecond after the cutoff.
    start, end = pd.Timestamp("1969-12-31", tz="UTC"), cutoff + pd.Timedelta(seconds=1)
    store.materialize(start.to_pydatetime(), end.to_pydatetime())
    return {"views": sorted(views)}


@contextmanager
def _definitions(repo_path: Path, feature_data_path: Path) -> Iterator[dict[str, Any]]:
    """Import the repository's modules afresh for this feature data folder, as `feast apply` would."""
    names = ("rec_entities", "rec_sources", "rec_views", "rec_services")
    before = os.environ.get("LOREFUSE_FEATURE_DATA")
    os.environ["LOREFUSE_FEATURE_DATA"] = str(feature_data_path)
    sys.path.insert(0, str(repo_path))
    try:
        for name in names:
            sys.modules.pop(name, None)
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(repo_path))
        if before is None:
            del os.environ["LOREFUSE_FEATURE_DATA"]
        else:
            os.environ["LOREFUSE_FEATURE_DATA"] = before


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
        DataError: The join lost, repeated or re-ordered a row, or found no features for one.
    """
    from safetensors.numpy import load_file

    spec = FeatureSpec.load(feature_data_path)
    interactions = Rows.of(dataset, load_split(split_path)[0])
    rows = interactions.with_negatives(dataset, read_negatives(split_path))
    joined = point_in_time(store_path, dataset.interactions())
    numeric = {view: _matrix(joined, names) for view, names in _NUMERICS.items()}
    sampled = slice(len(interactions.label), None)
    if len(rows.label) > len(interactions.label):
        # A negative shares its positive's user and moment, so only its item's features are to be joined.
        negatives = _sampled_events(dataset, rows, sampled)
        of_item = point_in_time(store_path, negatives, [f"{View.ITEM_STATS}:{name}" for name in a.ITEM_NUMERIC])
        numeric[View.ITEM_STATS] = np.concatenate([numeric[View.ITEM_STATS], _matrix(of_item, a.ITEM_NUMERIC)])
    interest = [_vectors(joined, facet) for facet in spec.interest]
    prior = ItemPrior.load(feature_data_path)
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
        user_numeric=numeric[View.USER_STATS],
        item_numeric=numeric[View.ITEM_STATS],
        user_interest=np.concatenate([np.zeros((joined.num_rows, 0), np.float32), *interest], axis=1),
        user_history=np.zeros((joined.num_rows, 0), np.int32),
        item_text=vectors.text,
        item_graph=vectors.graph,
        item_numeric_now=item_numeric_now(history_of(interactions, spec.label_kind), prior),
        **load_file(str(feature_data_path / TABLES_FILE)),
    )
    training_set.check()
    training_set.save(out_path)
    return {
        "num_rows": training_set.num_rows,
        "num_users": len(training_set.user_fields),
        "num_items": len(vectors.text),
    }


_NUMERICS = {View.USER_STATS: a.USER_NUMERIC, View.ITEM_STATS: a.ITEM_NUMERIC}


def _sampled_events(dataset: Dataset, rows: Rows, sampled: slice) -> pd.DataFrame:
    """Return the negatives as entity rows: who might have taken what, and when."""
    return pd.DataFrame(
        {
            c.ROW_ID: np.arange(len(rows.label), dtype=np.int64)[sampled],
            c.USER_ID: dataset.users()[c.USER_ID].to_numpy()[rows.user_row[sampled]],
            c.ITEM_ID: dataset.items()[c.ITEM_ID].to_numpy()[rows.item_row[sampled]],
            c.EVENT_TIMESTAMP: pd.to_datetime(rows.timestamp_us[sampled], unit="us", utc=True).as_unit("us"),
        }
    )


def _matrix(joined: pa.Table, names: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([joined[name].to_numpy().astype(np.float32) for name in names], axis=1)


def _vectors(joined: pa.Table, facet: InterestFacet) -> NDArray[np.float32]:
    """Return a column of lists as (rows, dim); flat, without a Python list per row."""
    flat = joined[facet.name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    matrix: NDArray[np.float32] = flat.astype(np.float32).reshape(joined.num_rows, facet.dim)
    return matrix


def point_in_time(store_path: Path, interactions: pd.DataFrame, features: list[str] | None = None) -> pa.Table:
    """Return features for each interaction, through Feast, as an Arrow table with rows counted and in order.

    Args:
        store_path: Where the features are.
        interactions: row_id, user_id, item_id, event_timestamp.
        features: Names such as ``item_stats:item_log_count``; null: those of the training service.

    Raises:
        DataError: A row was lost, repeated, re-ordered, or has no features.
    """
    store = open_store(store_path)
    entities = interactions[[c.ROW_ID, c.USER_ID, c.ITEM_ID, c.EVENT_TIMESTAMP]]
    wanted = features if features is not None else store.get_feature_service("training")
    joined: pa.Table = store.get_historical_features(entity_df=entities, features=wanted).to_arrow()
    found = joined[c.ROW_ID].to_numpy()
    if not np.array_equal(found, entities[c.ROW_ID].to_numpy()):
        raise DataError(
            "The point-in-time join did not give each row back once and in order.",
            expected=f"{len(entities)} rows",
            got=f"{len(found)} rows, {len(np.unique(found))} of them distinct",
        )
    missing = np.any([joined[name].is_null().to_numpy() for name in joined.column_names], axis=0)
    if missing.any():
        raise DataError(
            "The point-in-time join found no features for some rows.",
            expected="a snapshot at the epoch for every user and item",
            got=f"{int(missing.sum())} rows without, the first with row_id {found[missing][0]}",
        )
    return joined


def online_features(store_path: Path, view: View, features: Sequence[str], ids: Sequence[str]) -> pd.DataFrame:
    """Return features of some users or items from the online store, through Feast's SDK."""
    store = open_store(store_path)
    key = c.USER_ID if view.value.startswith("user") else c.ITEM_ID
    if not (store_path / ONLINE_FILE).is_file():
        raise ArtifactError(f"{store_path} has no online store.", fix="run again: lorefuse run")
    answer = store.get_online_features([f"{view}:{name}" for name in features], [{key: entity_id} for entity_id in ids])
    return pd.DataFrame(answer.to_dict())
