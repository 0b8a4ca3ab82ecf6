"""Online features of 1, 100 and 1000 entities: the reader inside Triton beside Feast's SDK, on the same SQLite store.

The store holds 20,000 entities with five floats, a vector of 64 and a list of 20 texts, about what `serving_user` asks
for. Both sides run in this process, in turn; every answer of the reader is held to the SDK's, value by value.

    python benchmarks/online_features.py [--entities 1 100 1000] [--rounds 30]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from verdict import give

READER_PATH = Path(__file__).parents[1] / "serving" / "model_repository" / "features" / "1" / "online_store.py"
NUM_ENTITIES, NUM_SCALARS, VECTOR_DIM, NUM_TEXTS = 20_000, 5, 64, 20
GOALS = {1000: 5.0}
FEATURES = [*(f"f{n}" for n in range(NUM_SCALARS)), "vector", "texts"]


def main() -> None:
    """Print milliseconds a call and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = fill(Path(folder))
        reader = open_reader(Path(folder) / "online.db")
        wanted = [f"facts:{name}" for name in FEATURES]
        rng = np.random.default_rng(0)
        for number in args.entities:
            ids = [f"u{n}" for n in rng.choice(NUM_ENTITIES, number, replace=False)]
            rows = [{"id": entity_id} for entity_id in ids]
            sides: dict[str, Callable[[], Any]] = {
                "reader": lambda ids=ids: reader.read("id", ids),
                "feast": lambda rows=rows: store.get_online_features(wanted, rows).to_dict(),
            }
            check(sides["reader"](), sides["feast"]())
            report(number, sides, args.rounds)


def report(number: int, sides: dict[str, Callable[[], Any]], num_rounds: int) -> None:
    """Ask both in turn; print medians and the ratio with its range."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(num_rounds):
        for name, call in sides.items():
            start_s = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start_s)
    ratios = sorted(theirs / ours for ours, theirs in zip(times["reader"], times["feast"], strict=True))
    usual = ratios[len(ratios) // 10 : len(ratios) - len(ratios) // 10]
    ours_ms, theirs_ms = (median(times[name]) * 1000 for name in ("reader", "feast"))
    print(
        f"{number:5} entities: reader {ours_ms:8.2f} ms, Feast's SDK {theirs_ms:8.2f} ms, {median(ratios):.1f}x faster "
        f"({usual[0]:.1f}-{usual[-1]:.1f}; 8 of 10 rounds)"
    )
    give("online features", f"{number} entities", "Feast SDK", usual, goal=GOALS.get(number))


def check(ours: list[dict[str, Any]], theirs: dict[str, list[Any]]) -> None:
    """End the run where a value differs."""
    for row, features in enumerate(ours):
        for name in FEATURES:
            got, expected = features[name], theirs[name][row]
            same = np.array_equal(got, np.asarray(expected, np.float32)) if name == "vector" else got == expected
            if not same:
                sys.exit(f"online_features: {name} of row {row} is {got!r}, Feast says {expected!r}")


def open_reader(path: Path) -> Any:
    """Open the store with the module that Triton's stub imports."""
    spec = importlib.util.spec_from_file_location("online_store", READER_PATH)
    if spec is None or spec.loader is None:
        raise AssertionError(f"{READER_PATH} is a module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.OnlineStore(str(path), "bench", {"facts": FEATURES})


def fill(folder_path: Path) -> Any:
    """Write and materialise the entities; return Feast's store."""
    import feast
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float32, String

    rng = np.random.default_rng(0)
    flat = pa.array(rng.standard_normal(NUM_ENTITIES * VECTOR_DIM, np.float32))
    columns = {
        "id": pa.array([f"u{n}" for n in range(NUM_ENTITIES)]),
        "moment": pa.array(np.full(NUM_ENTITIES, 1_600_000_000_000_000), pa.timestamp("us", "UTC")),
        **{f"f{n}": pa.array(rng.random(NUM_ENTITIES, np.float32)) for n in range(NUM_SCALARS)},
        "vector": pa.FixedSizeListArray.from_arrays(flat, VECTOR_DIM).cast(pa.list_(pa.float32())),
        "texts": pa.array([[f"item {n}" for n in row] for row in rng.integers(0, 9999, (NUM_ENTITIES, NUM_TEXTS))]),
    }
    pq.write_table(pa.table(columns), folder_path / "rows.parquet")
    config = feast.RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder_path / "registry.db"),
        online_store={"type": "sqlite", "path": str(folder_path / "online.db")},
        offline_store={"type": "lorefuse.feature_store.asof_store.AsofOfflineStore"},
        batch_engine={"type": "lorefuse.feature_store.bulk_engine.BulkComputeEngine"},
        entity_key_serialization_version=3,
        repo_path=str(folder_path),
    )
    kinds = {"vector": Array(Float32), "texts": Array(String)}
    schema = [Field(name=name, dtype=kinds.get(name, Float32)) for name in FEATURES]
    source = FileSource(name="rows", path=str(folder_path / "rows.parquet"), timestamp_field="moment")
    thing = Entity(name="thing", join_keys=["id"], value_type=ValueType.STRING)
    store = feast.FeatureStore(config=config)
    view = FeatureView(name="facts", entities=[thing], schema=schema, source=source, ttl=timedelta(0), online=True)
    store.apply([thing, view])
    store.materialize(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
    return store


if __name__ == "__main__":
    main()
