"""An offline store for Feast whose point-in-time join is one DuckDB ASOF join per view.

Feast's file store drops rows without a word (duplicates of key and time, rows older than any feature); its DuckDB
store keeps them but not their order. This one keeps every entity row, in order, with nulls where nothing was known.
Name it in `feature_store.yaml`::

    offline_store:
      type: lorefuse.features.asof_store.AsofOfflineStore
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView

from lorefuse.errors import UsageError

if TYPE_CHECKING:
    from feast.feature_view import FeatureView
    from feast.infra.registry.base_registry import BaseRegistry
    from feast.repo_config import RepoConfig

ROW = "__row__"
MEMORY_LIMIT = "1500MB"
"""Of DuckDB's join and sort; beyond it they spill to the temporary folder."""


class AsofOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]  # feast is untyped
    """Configuration of the store; the options are those of Feast's DuckDB store."""

    type: Literal["lorefuse.features.asof_store.AsofOfflineStore"] = "lorefuse.features.asof_store.AsofOfflineStore"


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
        entities = entity_df.assign(**{time_column: _utc_us(entity_df[time_column])}).reset_index(drop=True)
        table = pa.Table.from_pandas(entities, preserve_index=False)
        numbered = table.append_column(ROW, pa.array(np.arange(len(entities))))
        for view in feature_views:
            wanted = [ref.split(":")[1] for ref in feature_refs if ref.split(":")[0] == view.projection.name_to_use()]
            joined = asof_join(numbered, view, wanted, time_column, _source_path(view, config))
            for name in wanted:
                label = f"{view.projection.name_to_use()}__{name}" if full_feature_names else name
                table = table.append_column(label, joined.column(name))
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        times = entities[time_column]
        keys = [name for name in entities.columns if name != time_column]
        return IbisRetrievalJob(
            ibis.memtable(table),
            on_demand,
            full_feature_names,
            metadata=RetrievalMetadata(feature_refs, keys, times.min(), times.max()),
            data_source_writer=None,
            staging_location=None,
            staging_location_endpoint_override=None,
            repo_path=str(config.repo_path),
        )


def asof_join(
    numbered: pa.Table, view: FeatureView, features: list[str], time_column: str, source_path: str
) -> pa.Table:
    """Return the view's features for every entity row, in order; nulls where none is known or its TTL is over.

    Of several snapshots of one key and time, the one created last counts, or any of them where that is not recorded.
    """
    source = view.batch_source
    mapping = {new: old for old, new in source.field_mapping.items()}
    keys = {entity: view.projection.join_key_map.get(entity, entity) for entity in view.join_keys}
    stored = {name: mapping.get(name, name) for name in (*keys, *features)}
    time = _quote(source.timestamp_field)
    latest = f"{_quote(source.created_timestamp_column)} DESC" if source.created_timestamp_column else "1"
    partition = ", ".join([*(_quote(stored[key]) for key in keys), time])
    columns = ", ".join(f"{_quote(stored[name])} AS {_quote(name)}" for name in (*keys, *features))
    match = " AND ".join(f"e.{_quote(entity)} = f.{_quote(key)}" for key, entity in keys.items())
    ttl = view.ttl if view.ttl and view.ttl > timedelta(0) else None
    fresh = (
        f"epoch_us(e.{_quote(time_column)}) - epoch_us(f.__time__) <= {ttl // timedelta(microseconds=1)}"
        if ttl
        else "TRUE"
    )
    chosen = ", ".join(f"CASE WHEN {fresh} THEN f.{_quote(name)} END AS {_quote(name)}" for name in features)
    query = f"""
        WITH f AS (
            SELECT {columns}, {time}::TIMESTAMPTZ AS __time__
            FROM read_parquet(?)
            QUALIFY row_number() OVER (PARTITION BY {partition} ORDER BY {latest}) = 1
        )
        SELECT {chosen}
        FROM entities e ASOF LEFT JOIN f ON {match} AND e.{_quote(time_column)} >= f.__time__
        ORDER BY e.{ROW}
    """  # noqa: S608  (every name is quoted)
    with tempfile.TemporaryDirectory(prefix="lorefuse-join-") as spill, duckdb.connect() as connection:
        # Times without a zone are UTC to Feast; DuckDB would take them for the machine's local time.
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        connection.execute("SET temp_directory = ?", [spill])
        connection.register("entities", numbered)
        return connection.sql(query, params=[source_path]).to_arrow_table()


def _source_path(view: FeatureView, config: RepoConfig) -> str:
    path = str(view.batch_source.path)
    return path if "://" in path or path.startswith("/") else str(config.repo_path / path)


def _utc_us(times: pd.Series) -> pd.Series:
    return pd.to_datetime(times, utc=True).astype("datetime64[us, UTC]")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
