"""An offline store for Feast whose point-in-time join is one sort of snapshots and rows per view.

Feast's file store drops rows without a word (duplicates of key and time, rows older than any feature); its DuckDB
store keeps them but not their order. This one keeps every entity row, in order, with nulls where nothing was known.
Name it in `feature_store.yaml`::

    offline_store:
      type: lorefuse.feature_store.asof_store.AsofOfflineStore
"""

from __future__ import annotations

import atexit
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import ibis
import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView
from ibis.backends.duckdb import Backend

from lorefuse.core.errors import UsageError
from lorefuse.feature_store.asof_join import Snapshots, take

if TYPE_CHECKING:
    from feast.feature_view import FeatureView
    from feast.infra.registry.base_registry import BaseRegistry
    from feast.repo_config import RepoConfig

_ROWS_A_PART = 1 << 21
"""Rows whose snapshots are looked for at a time: what the search holds does not grow with their number."""


class AsofOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]  # feast is untyped
    """Configuration of the store; the options are those of Feast's DuckDB store."""

    type: Literal["lorefuse.feature_store.asof_store.AsofOfflineStore"] = (
        "lorefuse.feature_store.asof_store.AsofOfflineStore"
    )


class AsofOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]  # feast is untyped
    """Feast's DuckDB store with another point-in-time join; everything else is inherited."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Join each entity row with the latest features at or before its time.

        Args:
            config: Of the repository.
            feature_views: Views to join.
            feature_refs: ``view:feature`` references.
            entity_df: Keys and one timestamp column; every row comes back, in this order.
            registry: For on-demand views.
            project: Name of the Feast project.
            full_feature_names: Prefix features with their view.
            **kwargs: Options of other stores; none are used.

        Raises:
            UsageError: `entity_df` is not a data frame: a query, or a range of times without entities.
        """
        if not isinstance(entity_df, pd.DataFrame):
            got = "a query" if isinstance(entity_df, str) else "none"
            raise UsageError("This store joins data frames.", expected="entity_df as a DataFrame", got=got)
        time_column = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes.items()))
        entities = entity_df.copy(deep=False)  # of many rows there is no room for another copy
        entities[time_column] = _utc_us(entities[time_column])
        table = entity_table = pa.Table.from_pandas(entities, preserve_index=False)
        for view in feature_views:
            wanted = [ref.split(":")[1] for ref in feature_refs if ref.split(":")[0] == view.projection.name_to_use()]
            joined = asof_join(entity_table, view, wanted, time_column, _source_path(view, config))
            pa.default_memory_pool().release_unused()
            for name in wanted:
                label = f"{view.projection.name_to_use()}__{name}" if full_feature_names else name
                table = table.append_column(label, joined.column(name))
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        times = entities[time_column]
        keys = [name for name in entities.columns if name != time_column]
        return _Joined(
            table,
            on_demand_feature_views=on_demand,
            full_feature_names=full_feature_names,
            metadata=RetrievalMetadata(feature_refs, keys, times.min(), times.max()),
            data_source_writer=None,
            staging_location=None,
            staging_location_endpoint_override=None,
            repo_path=str(config.repo_path),
        )


def asof_join(
    entities: pa.Table, view: FeatureView, features: list[str], time_column: str, source_path: str
) -> pa.Table:
    """Return the view's features for every entity row, in order; nulls where none is known or its TTL is over.

    Of several snapshots of one key and time, the one created last counts, or any of them where that is not recorded.
    """
    stored = {new: old for old, new in view.batch_source.field_mapping.items()}
    rows = _latest_rows(entities, view, stored, time_column, source_path)
    return pa.table({name: take(source_path, stored.get(name, name), rows) for name in features})


def _latest_rows(
    entities: pa.Table, view: FeatureView, stored: dict[str, str], time_column: str, source_path: str
) -> pa.Array:
    source = view.batch_source
    keys = {key: view.projection.join_key_map.get(key, key) for key in view.join_keys}
    snapshots = Snapshots(
        source_path, [stored.get(key, key) for key in keys], source.timestamp_field, source.created_timestamp_column
    )
    ttl_us = view.ttl // timedelta(microseconds=1) if view.ttl and view.ttl > timedelta(0) else None
    found = []
    for start in range(0, max(len(entities), 1), _ROWS_A_PART):
        part = entities.slice(start, _ROWS_A_PART)
        found.append(snapshots.latest([part[name] for name in keys.values()], part[time_column], ttl_us))
    return pa.concat_arrays(found)


class _Joined(IbisRetrievalJob):  # type: ignore[misc]  # feast is untyped
    """A join that is done; a table is handed on as it is, not through a query."""

    def __init__(self, joined: pa.Table, **options: Any) -> None:
        super().__init__(ibis.memtable(joined), **options)
        self._joined = joined

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._joined


@atexit.register
def close_duckdb() -> None:
    """Close the connection that ibis keeps for itself, which Feast reads files through.

    DuckDB's binding complains at the end of the process about every object of its own that is still alive then, and
    one connection keeps them all alive.
    """
    connection = ibis.options.default_backend
    if isinstance(connection, Backend):
        ibis.options.default_backend = None
        connection.disconnect()
        del connection.con


def _source_path(view: FeatureView, config: RepoConfig) -> str:
    path = str(view.batch_source.path)
    return path if "://" in path or path.startswith("/") else str(config.repo_path / path)


def _utc_us(times: pd.Series) -> pd.Series:
    if str(times.dtype) == "datetime64[us, UTC]":
        return times
    return pd.to_datetime(times, utc=True).astype("datetime64[us, UTC]")
