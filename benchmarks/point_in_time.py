"""Point-in-time joins through Feast: our ASOF store beside Feast's DuckDB and file (dask) stores, on the same files.

A million rows by default, two views of three numbers, snapshots at random moments. Among the rows are moments before
anything was known (features must be null there) and repeats of one key and moment (every row must come back). Each
store runs in a process of its own, ours before each peer, so that a ratio compares neighbours in time. Every answer is
then held to a naive join, `searchsorted` per key in numpy: rows that are missing, and rows that are wrong.

    python benchmarks/point_in_time.py [--rows 1000000] [--stores duckdb file] [--repeats 1]

Feast's file store needs about 19 GB at a million rows (no answer came in five CPU minutes) and is skipped, loudly,
where there is less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray
from verdict import give

OURS = "lorefuse.feature_store.asof_store.AsofOfflineStore"
STORES = {"ours": OURS, "duckdb": "duckdb", "file": "dask"}
VIEWS = {"user": "user_id", "item": "item_id"}
NUM_FEATURES = 3
DAY_US = 86_400_000_000
FILE_STORE_BYTES_A_ROW = 20_000
GOAL = 20.0


def main() -> None:
    """Print seconds, memory, missing and wrong rows of every store, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--stores", nargs="*", choices=["duckdb", "file"], default=["duckdb", "file"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--child", choices=list(STORES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        join(args.child, args.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        expected = write_data(Path(folder), args.rows)
        print(f"{args.rows:,} rows, 2 views, {int(np.isnan(expected[:, 0]).sum()):,} rows before anything was known")
        for name in args.stores:
            need = FILE_STORE_BYTES_A_ROW * args.rows
            if name == "file" and psutil.virtual_memory().available < need:
                print(f"{name}: SKIPPED, it needs about {need / 2**30:.0f} GiB of memory for {args.rows:,} rows")
                continue
            pairs = [[measured(who, Path(folder), expected) for who in ("ours", name)] for _ in range(args.repeats)]
            for number, who in enumerate(("ours", name)):
                report(who, [pair[number] for pair in pairs], args.rows)
            ratios = [pair[1]["elapsed_s"] / pair[0]["elapsed_s"] for pair in pairs]
            cpu = [pair[1]["cpu_s"] / pair[0]["cpu_s"] for pair in pairs]
            print(f"  ours is {median(ratios):.1f}x faster ({min(ratios):.1f}-{max(ratios):.1f}), ", end="")
            print(f"{median(cpu):.1f}x in CPU seconds", flush=True)
            give("point-in-time join", f"{args.rows:,} rows", f"Feast's {name} store", ratios, goal=GOAL)
            if any(pair[0]["missing"] or pair[0]["wrong"] for pair in pairs):
                sys.exit("point_in_time: our store is not right")


def report(name: str, runs: list[dict[str, Any]], num_rows: int) -> None:
    """Print what a store's runs took, and how right the last was."""
    last = runs[-1]
    elapsed_s, cpu_s = (median(run[column] for run in runs) for column in ("elapsed_s", "cpu_s"))
    print(
        f"{name:8} {elapsed_s:8.2f} s {cpu_s:8.2f} CPU s, "
        f"peak {last['peak_bytes'] / 2**30:5.2f} GiB; missing {last['missing']:,} rows, wrong {last['wrong']:,}, "
        f"{'in order' if last['ordered'] else 'out of order'}"
    )


def write_data(folder_path: Path, num_rows: int) -> NDArray[np.float64]:
    """Write `user.parquet`, `item.parquet` and `rows.parquet`; return the right features of every row, (rows, 6)."""
    rng = np.random.default_rng(0)
    num_keys = max(10, num_rows // 100)
    rows = pd.DataFrame({"row_id": np.arange(num_rows)})
    moments = rng.integers(0, 1000 * DAY_US, num_rows)
    blocks = []
    for view, key in VIEWS.items():
        # All moments differ, so no two snapshots of one key share one.
        snapshot_key = rng.integers(0, num_keys, num_rows)
        snapshot_us = rng.permutation(num_rows).astype(np.int64) * (1000 * DAY_US // num_rows)
        order = np.lexsort((snapshot_us, snapshot_key))
        snapshot_key, snapshot_us = snapshot_key[order], snapshot_us[order]
        values = rng.random((num_rows, NUM_FEATURES))
        table = pd.DataFrame({key: snapshot_key.astype(str), "event_timestamp": utc(snapshot_us)})
        for n in range(NUM_FEATURES):
            table[f"{view}_{n}"] = values[:, n]
        table.to_parquet(folder_path / f"{view}.parquet", index=False)
        wanted = rng.integers(0, num_keys, num_rows)
        if view == "user":
            wanted[1::50], moments[1::50] = wanted[::50][: len(wanted[1::50])], moments[::50][: len(wanted[1::50])]
        rows[key] = wanted.astype(str)
        blocks.append(naive_join(wanted, moments, snapshot_key, snapshot_us, values))
    rows["item_id"] = np.where(np.arange(num_rows) % 50 == 1, rows["item_id"].shift(1), rows["item_id"])
    blocks[1][1::50] = blocks[1][::50][: len(blocks[1][1::50])]
    rows["event_timestamp"] = utc(moments)
    rows.to_parquet(folder_path / "rows.parquet", index=False)
    return np.concatenate(blocks, axis=1)


def naive_join(
    key: NDArray[np.int64],
    moment_us: NDArray[np.int64],
    snapshot_key: NDArray[np.int64],
    snapshot_us: NDArray[np.int64],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return, for each row, the values of its key's last snapshot at or before its moment; NaN where there is none."""
    result = np.full((len(key), values.shape[1]), np.nan)
    order = np.argsort(key, kind="stable")
    keys = np.arange(max(key.max(), snapshot_key.max()) + 2)
    row_starts, starts = np.searchsorted(key[order], keys), np.searchsorted(snapshot_key, keys)
    for one in keys[:-1]:
        at, block = order[row_starts[one] : row_starts[one + 1]], slice(starts[one], starts[one + 1])
        place = np.searchsorted(snapshot_us[block], moment_us[at], side="right") - 1
        known = place >= 0
        result[at[known]] = values[block][place[known]]
    return result


def utc(moment_us: NDArray[np.int64]) -> pd.Series:
    """Return microseconds after 2020 as timestamps."""
    return pd.Series(pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(moment_us, unit="us")).dt.as_unit("us")


def measured(name: str, folder_path: Path, expected: NDArray[np.float64]) -> dict[str, Any]:
    """Join in a process of its own; return seconds, memory, and how right the answer is."""
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    if done.returncode:
        sys.exit(f"point_in_time: {name} failed\n{done.stderr[-2000:]}")
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    joined = pd.read_parquet(folder_path / f"joined_{name}.parquet")
    columns = [f"{view}_{n}" for view in VIEWS for n in range(NUM_FEATURES)]
    row = joined["row_id"].to_numpy()
    got = joined[columns].to_numpy(np.float64)
    right = (np.isclose(got, expected[row], rtol=0, atol=1e-12, equal_nan=True)).all(1)
    facts["missing"] = len(expected) - len(np.unique(row))
    facts["wrong"] = int((~right).sum())
    facts["ordered"] = bool((np.diff(row) > 0).all())
    return facts


def join(name: str, folder_path: Path) -> None:
    """Apply the views, join all rows through Feast, write the answer, print what it took as JSON."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast.types import Float64
    from feast.value_type import ValueType

    home_path = folder_path / f"feast_{name}"
    home_path.mkdir(exist_ok=True)
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(home_path / "registry.db"),
        online_store={"type": "sqlite", "path": str(home_path / "online.db")},
        offline_store={"type": STORES[name]},
        entity_key_serialization_version=3,
        repo_path=home_path,
    )
    store = FeatureStore(config=config)
    definitions: list[Any] = []
    for view, key in VIEWS.items():
        entity = Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
        source = FileSource(path=str(folder_path / f"{view}.parquet"), timestamp_field="event_timestamp")
        schema = [Field(name=f"{view}_{n}", dtype=Float64) for n in range(NUM_FEATURES)]
        definitions += [
            entity,
            FeatureView(name=view, entities=[entity], schema=schema, source=source, ttl=timedelta(0), online=False),
        ]
    store.apply(definitions)
    rows = pd.read_parquet(folder_path / "rows.parquet")
    features = [f"{view}:{view}_{n}" for view in VIEWS for n in range(NUM_FEATURES)]
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    table = store.get_historical_features(entity_df=rows, features=features).to_arrow()
    elapsed_s, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_start_s
    frame = table.to_pandas()
    frame.to_parquet(folder_path / f"joined_{name}.parquet", index=False)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"elapsed_s": elapsed_s, "cpu_s": cpu_s, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    main()
