"""Feast: apply the definitions, fill the online store, join point in time.

A feature store is a folder, made whole in one rename, with ``registry.db`` and ``online_store.db``; or, where the
settings name servers, with a ``store.json`` that names its project in PostgreSQL and Redis (`features.online`). Its
sources are the Parquet files of a feature data folder. Layout of ``online_store.db``, which the served feature model
reads directly: one table per view, named ``lorefuse_<view>``, with the columns ``entity_key`` (Feast's key bytes,
serialization version 3), ``feature_name`` and ``value`` (a serialized ``feast.types.Value``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError, ConfigError, DataError
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, ROW_ID, USER_ID
from lorefuse.feature_store import online
from lorefuse.feature_store.materialize import definitions_path, fill, offline_kind, open_config

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore

ASOF = "lorefuse.feature_store.asof_store.AsofOfflineStore"


def open_store(store_path: Path) -> FeatureStore:
    """Open a feature store folder with Feast's SDK.

    Raises:
        UsageError: The store lies on servers that the settings do not name.
        UnreachableError: A server does not answer.
    """
    return open_config(online.repo_config(store_path))


def apply_and_materialize(feature_data_path: Path, store_path: Path) -> dict[str, Any]:
    """Apply `feature_repo/` to a registry and fill an online store with the latest snapshots.

    Both are new files in the folder or, where the settings name servers, a project of its own on them.

    Args:
        feature_data_path: Feature data folder; its place is written into the registry, so it must stay.
        store_path: Empty folder to fill.

    Returns:
        Names of the views.

    Raises:
        UsageError: There is no `feature_repo/` in the project.
        ArtifactError: The feature data folder holds no views.
        UnreachableError: A server does not answer; run again to go on.
    """
    repo_path = definitions_path()
    if not online.on_servers():
        return {"views": fill(online.repo_config(store_path), repo_path, feature_data_path)}
    project = online.project_name(feature_data_path, repo_path)
    views = _fill_servers(project, store_path, repo_path, feature_data_path)
    facts = {"project": project, "registry": "postgresql", "online_store": online.REDIS, "views": views}
    write_json(store_path / online.SERVERS_FILE, facts)
    return {"views": views, "project": project}


def ensure_filled(feature_data_path: Path, store_path: Path) -> bool:
    """Fill a store's project again where the servers have lost it; returns whether they had.

    A finished step is reused because of its files. The rows of a store on servers are elsewhere: Redis may have been
    emptied since, or be another one.

    Raises:
        UnreachableError: A server does not answer.
    """
    facts = online.server_facts(store_path)
    if facts is None or online.filled_from(facts["project"]) == feature_data_path:
        return False
    _fill_servers(facts["project"], store_path, definitions_path(), feature_data_path)
    return True


def _fill_servers(project: str, store_path: Path, repo_path: Path, feature_data_path: Path) -> list[str]:
    online.set_filled(project, None)
    with online.explained_servers():
        views = fill(online.repo_config(store_path, project), repo_path, feature_data_path)
    online.set_filled(project, feature_data_path)
    return views


def point_in_time(store_path: Path, interactions: pd.DataFrame, features: list[str] | None = None) -> pa.Table:
    """Return features for each interaction, through Feast, as an Arrow table with rows counted and in order.

    Args:
        store_path: Where the features are.
        interactions: row_id, user_id, item_id, event_timestamp.
        features: Names such as ``item_stats:item_log_count``; None: those of the training service.

    Raises:
        DataError: A row was lost or repeated, or has no features.
        ConfigError: The offline store is one whose join would let a label see itself.
    """
    names = (ROW_ID, USER_ID, ITEM_ID, EVENT_TIMESTAMP)
    entities = pd.DataFrame({name: interactions[name] for name in names}, copy=False)
    store = open_store(store_path)
    kind = offline_kind(store.config)
    if kind == "ray":
        raise ConfigError(
            "Feast's Ray store cuts times to whole seconds: a label would see its own moment.",
            expected=f"offline_store of type {ASOF} or spark",
            got="ray",
            fix=f"correct feature_repo/{online.PRODUCTION_YAML}",
        )
    if kind == ASOF:
        store.config.coerce_tz_aware = False  # the times have a zone; Feast would copy all rows to see to it
    else:
        entities = entities.astype({USER_ID: str, ITEM_ID: str})  # the other stores know no categories
    with online.explained_servers():
        wanted = features if features is not None else store.get_feature_service("training")
        joined: pa.Table = store.get_historical_features(entity_df=entities, features=wanted).to_arrow()
    joined = _in_order(joined, entities[ROW_ID].to_numpy())
    missing = np.zeros(len(entities), dtype=bool)
    for name in joined.column_names:
        missing |= joined[name].is_null().to_numpy()
    if missing.any():
        raise DataError(
            "The point-in-time join found no features for some rows.",
            expected="a snapshot at the epoch for every user and item",
            got=f"{int(missing.sum())} rows without, the first with row_id {joined[ROW_ID].to_numpy()[missing][0]}",
        )
    return joined


def _in_order(joined: pa.Table, row_ids: NDArray[np.int64]) -> pa.Table:
    """Return the joined rows in the order asked for, which a store of many machines does not keep."""
    found = joined[ROW_ID].to_numpy()
    if np.array_equal(found, row_ids):
        return joined
    order, wanted = np.argsort(found), np.argsort(row_ids)
    if not np.array_equal(found[order], row_ids[wanted]):
        raise DataError(
            "The point-in-time join did not give each row back once.",
            expected=f"{len(row_ids)} rows",
            got=f"{len(found)} rows, {len(np.unique(found))} of them distinct",
        )
    place = np.empty(len(order), dtype=np.int64)
    place[wanted] = order
    return joined.take(place)


def online_features(store_path: Path, view: str, features: Sequence[str], ids: Sequence[str]) -> pd.DataFrame:
    """Return features of some users or items from the online store, through Feast's SDK.

    Raises:
        ArtifactError: The folder holds no online store.
        UnreachableError: The online store is a server that does not answer.
    """
    if online.server_facts(store_path) is None and not (store_path / online.ONLINE_FILE).is_file():
        raise ArtifactError(f"{store_path} has no online store.", fix="run again: lorefuse run")
    store = open_store(store_path)
    key = USER_ID if view.startswith("user") else ITEM_ID
    wanted = [f"{view}:{name}" for name in features]
    with online.explained_servers():
        answer = store.get_online_features(wanted, [{key: entity_id} for entity_id in ids])
    return pd.DataFrame(answer.to_dict())
