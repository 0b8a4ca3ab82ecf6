"""A small Feast repository with every kind of column, materialised by either engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Float64, Int64, String

BULK = {"type": "lorefuse.feature_store.bulk_engine.BulkComputeEngine"}
FEATURES = {
    "number": Float32,
    "precise": Float64,
    "it's": String,
    "vector": Array(Float32),
    "words": Array(String),
}
IDS = ["u1", "ü2", "", "u10", "u3"]
MOMENTS_US = [1_600_000_000_000_001, 1_600_000_000_000_000, 0, 1_600_000_000_500_000, 1_600_000_001_000_000]


def table(key: pa.Array, moments_us: list[int]) -> pa.Table:
    """Five rows with nulls, NaN, an infinity, empty texts and empty lists among them."""
    rows = {
        "id": key,
        "moment": pa.array(moments_us, pa.timestamp("us", "UTC")),
        "created": pa.array([us + 7 for us in moments_us], pa.timestamp("us", "UTC")),
        "number": pa.array([0.1, float("nan"), None, float("inf"), 0.0], pa.float32()),
        "precise": pa.array([0.1, None, -0.0, 1e300, float("nan")], pa.float64()),
        "it's": pa.array(["a", "", None, "ö" * 200, "x'y"]),
        "vector": pa.array([[1.5, -2.0], [], None, [0.25] * 300, [float("nan"), 0.5]], pa.list_(pa.float32())),
        "words": pa.array([["a", "b"], [], None, ["é", ""], ["x" * 300]], pa.list_(pa.string())),
        "whole": pa.array([1, 2, 3, 4, 5], pa.int64()),
    }
    return pa.table(rows)


class Repository:
    """One view in a folder; `online` is Feast's configuration of the online store."""

    def __init__(self, path: Path, engine: dict[str, str] | None, *, project: str = "shop", **online: Any) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.data_path, self.database_path = path, path / "rows.parquet", path / "online.db"
        engines: dict[str, Any] = {"batch_engine": engine} if engine else {}
        self.store = feast.FeatureStore(
            config=feast.RepoConfig(
                project=project,
                provider="local",
                registry=str(path / "registry.db"),
                online_store=online or {"type": "sqlite", "path": str(self.database_path)},
                offline_store={"type": "lorefuse.feature_store.asof_store.AsofOfflineStore"},
                entity_key_serialization_version=3,
                repo_path=str(path),
                **engines,
            )
        )

    def fill(
        self,
        rows: pa.Table,
        features: dict[str, Any] = FEATURES,
        key_type: ValueType = ValueType.STRING,
        created: str = "created",
    ) -> None:
        """Write the rows as the view's source and materialise all of them."""
        pq.write_table(rows, self.data_path)
        self.store.apply(
            [
                entity := Entity(name="thing", join_keys=["id"], value_type=key_type),
                FeatureView(
                    name="facts",
                    entities=[entity],
                    schema=[Field(name=name, dtype=kind) for name, kind in features.items()],
                    source=FileSource(
                        name="rows",
                        path=str(self.data_path),
                        timestamp_field="moment",
                        created_timestamp_column=created,
                    ),
                    ttl=timedelta(0),
                    online=True,
                ),
            ]
        )
        self.store.materialize(datetime(1969, 12, 31, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))

    def answers(self, ids: list[Any], features: dict[str, Any] = FEATURES) -> pd.DataFrame:
        """What Feast's SDK reads back."""
        wanted = [f"facts:{name}" for name in features]
        return self.store.get_online_features(wanted, [{"id": entity_id} for entity_id in ids]).to_df()


WHOLE = {**FEATURES, "whole": Int64}
"""With a kind that the bulk writer leaves to Feast."""
