"""`feast materialize` into SQLite and Redis: our batch engine beside Feast's own, on the same files.

Scalars: rows of four floats. Vectors: a tenth as many rows of 384 floats. Each engine runs in a process of its own,
ours before Feast's, so that a ratio compares neighbours in time; the time is that of `FeatureStore.materialize`, with
imports already done. Afterwards a thousand entities are read back from both through Feast's SDK and must be equal.

    python benchmarks/materialize.py [--rows 1000000] [--stores sqlite redis] [--repeats 1]

Redis is started on a spare port where `redis-server` is installed, and left out, loudly, where it is not.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from verdict import give

ENGINES = {"ours": {"type": "lorefuse.feature_store.bulk_engine.BulkComputeEngine"}, "feast": {"type": "local"}}
SHAPES = {"scalars": 1, "vectors": 10}
"""Rows of a shape are the rows asked for, divided by this."""
NUM_SCALARS, VECTOR_DIM, NUM_READ = 4, 384, 1000
GOAL = 3.0


def main() -> None:
    """Print seconds, memory and ratios for every store and shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "redis"], default=["sqlite", "redis"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(fill(**json.loads(args.child))))
        return
    for store in args.stores:
        if store == "redis" and shutil.which("redis-server") is None:
            print("redis: SKIPPED, there is no redis-server")
            continue
        for shape, divisor in SHAPES.items():
            with tempfile.TemporaryDirectory() as folder:
                write_rows(Path(folder), shape, args.rows // divisor)
                pairs = [
                    {name: measured(Path(folder), store, shape, name) for name in ENGINES} for _ in range(args.repeats)
                ]
            report(store, shape, args.rows // divisor, pairs)


def report(store: str, shape: str, num_rows: int, pairs: list[dict[str, Any]]) -> None:
    """Print both engines' medians and the ratios; end the run where they differ in what is read back."""
    print(f"\n{store}, {num_rows:,} rows of {shape}")
    for name in ENGINES:
        elapsed_s, cpu_s, peak = (
            median(pair[name][key] for pair in pairs) for key in ("wall_s", "cpu_s", "peak_bytes")
        )
        print(f"{name:6} {elapsed_s:8.2f} s {cpu_s:8.2f} CPU s, peak {peak / 2**30:.2f} GiB")
    for key in ("wall_s", "cpu_s"):
        ratios = [pair["feast"][key] / pair["ours"][key] for pair in pairs]
        print(f"  ours is {median(ratios):.1f}x faster ({min(ratios):.1f}-{max(ratios):.1f}) in {key}", flush=True)
        if key == "wall_s":
            give("materialise", f"{store}, {num_rows:,} rows of {shape}", "feast materialize", ratios, goal=GOAL)
    if any(pair["ours"]["read"] != pair["feast"]["read"] for pair in pairs):
        sys.exit("materialize: the two engines do not give the same features")


def write_rows(folder_path: Path, shape: str, num_rows: int) -> None:
    """Write `rows.parquet`: an id, a moment, and the features."""
    rng = np.random.default_rng(0)
    moments = rng.integers(1_600_000_000, 1_600_086_400, num_rows) * 1_000_000
    columns = {
        "id": pa.array([f"u{n}" for n in range(num_rows)]),
        "moment": pa.array(moments, pa.timestamp("us", "UTC")),
    }
    if shape == "scalars":
        columns |= {f"f{n}": pa.array(rng.random(num_rows, np.float32)) for n in range(NUM_SCALARS)}
    else:
        flat = pa.array(rng.standard_normal(num_rows * VECTOR_DIM, np.float32))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, VECTOR_DIM).cast(pa.list_(pa.float32()))
    pq.write_table(pa.table(columns), folder_path / "rows.parquet")


def measured(folder_path: Path, store: str, shape: str, engine: str) -> dict[str, Any]:
    """Fill an empty store in a process of its own."""
    with redis() if store == "redis" else sqlite(folder_path / f"{engine}.db") as online:
        job = {"folder": str(folder_path), "shape": shape, "engine": engine, "online": online}
        command = [sys.executable, __file__, "--child", json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    answer: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return answer


@contextmanager
def sqlite(path: Path) -> Iterator[dict[str, str]]:
    """A file that is not there yet."""
    path.unlink(missing_ok=True)
    yield {"type": "sqlite", "path": str(path)}


@contextmanager
def redis() -> Iterator[dict[str, str]]:
    """An empty Redis on a spare port of the loopback address, with nothing on disk."""
    with socket.socket() as spare:
        spare.bind(("127.0.0.1", 0))
        port = spare.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait(20)


def fill(folder: str, shape: str, engine: str, online: dict[str, str]) -> dict[str, Any]:
    """Materialise once; return what it took and a digest of what the SDK reads back."""
    import feast
    import pandas as pd
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float32

    import lorefuse.feature_store.bulk_engine  # noqa: F401  (both sides begin with everything imported)

    registry_path = Path(folder) / f"{engine}.registry"
    registry_path.unlink(missing_ok=True)
    config = feast.RepoConfig(
        project="bench",
        provider="local",
        registry=str(registry_path),
        online_store=online,
        offline_store={"type": "lorefuse.feature_store.asof_store.AsofOfflineStore"},
        batch_engine=ENGINES[engine],
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    features = {f"f{n}": Float32 for n in range(NUM_SCALARS)} if shape == "scalars" else {"vector": Array(Float32)}
    store = feast.FeatureStore(config=config)
    thing = Entity(name="thing", join_keys=["id"], value_type=ValueType.STRING)
    source = FileSource(name="rows", path=str(Path(folder) / "rows.parquet"), timestamp_field="moment")
    schema = [Field(name=name, dtype=kind) for name, kind in features.items()]
    view = FeatureView(name="facts", entities=[thing], schema=schema, source=source, ttl=timedelta(0), online=True)
    store.apply([thing, view])
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    store.materialize(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_start_s
    ids = [{"id": f"u{n}"} for n in range(NUM_READ)]
    read = store.get_online_features([f"facts:{name}" for name in features], ids).to_df()
    digest = int(pd.util.hash_pandas_object(read[sorted(read)].astype(str)).sum())
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall_s": wall_s, "cpu_s": cpu_s, "peak_bytes": peak_bytes, "read": digest}


if __name__ == "__main__":
    main()
