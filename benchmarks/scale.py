"""Time and memory of each data step as interactions grow, each step in a process of its own.

    python benchmarks/scale.py --rows 1000000 5000000 --out scale.json
    python benchmarks/scale.py --rows 25000000 --limit-mb 4000        # what `make scale` runs: some ten minutes

Steps: ingest (files, Parquet), split (per-user time), features (causal aggregates of users and items, without knowledge
vectors), join (the point-in-time join of both views through Feast, into the training set's file). Peak memory is the
process's largest resident set.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generate import generate

STEPS = ("ingest", "split", "features", "join")


def main() -> None:
    """Run every step at every size and print a table; or, in a child, one step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--folder", type=Path, help="Keep data here and reuse it; default: a temporary folder")
    parser.add_argument("--out", type=Path, help="Also write JSON")
    parser.add_argument("--limit-mb", type=float, default=float("inf"), help="Fail where a step takes more")
    parser.add_argument("--child", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run_step(given.child, given.folder)))
        return
    results = []
    for num_rows in given.rows:
        kept = given.folder / str(num_rows) if given.folder else None
        with tempfile.TemporaryDirectory() as temporary:
            results += measure(kept or Path(temporary), num_rows, given.steps)
    if given.out:
        given.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    over = [f"{result['step']} at {result['rows']:,} rows" for result in results if result["peak_mb"] > given.limit_mb]
    if over:
        sys.exit(f"Over {given.limit_mb:,.0f} MB: {', '.join(over)}")


def measure(folder: Path, num_rows: int, steps: list[str]) -> list[dict[str, Any]]:
    """Return seconds and peak megabytes of each step at one size."""
    if not (folder / "raw" / "items.parquet").is_file():
        print(generate(folder / "raw", num_rows, num_rows // 150, num_rows // 400), flush=True)
    results = []
    for step in steps:
        command = [sys.executable, __file__, "--child", step, "--folder", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{step} at {num_rows:,} rows failed ({done.returncode}):\n{done.stderr[-2000:]}")
        result = {"rows": num_rows, **json.loads(done.stdout.splitlines()[-1])}
        figures = f"{result['seconds']:>8.1f} s  {result['cpu_s']:>8.1f} CPU s  {result['peak_mb']:>7,.0f} MB"
        print(f"{num_rows:>12,}  {step:10} {figures}", flush=True)
        results.append(result)
    return results


def run_step(step: str, folder: Path) -> dict[str, Any]:
    """Run one step into a fresh folder beside the others and measure it."""
    out_path = folder / step
    shutil.rmtree(out_path, ignore_errors=True)
    out_path.mkdir(parents=True)
    work = _steps(folder)[step]
    start_s = time.perf_counter()
    work(out_path)
    seconds = time.perf_counter() - start_s
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime  # imports included; what a step costs even where others use the machine
    return {"step": step, "seconds": seconds, "cpu_s": cpu_s, "peak_mb": used.ru_maxrss / 1024}


def _steps(folder: Path) -> dict[str, Callable[[Path], Any]]:
    import numpy as np

    from lorefuse.config import PipelineConfig, parse_config
    from lorefuse.data.dataset import Dataset
    from lorefuse.training_set.vectors import ItemVectors

    raw = folder / "raw"
    source = {"kind": "files", "timestamp_unit": "us", "item_categories": ["genre"]}
    source |= {f"{name}_path": str(raw / f"{name}.parquet") for name in ("interactions", "items")}
    config: PipelineConfig = parse_config({"name": "scale", "data": {"source": source}})

    def ingest(out_path: Path) -> None:
        from lorefuse.data.ingest import ingest as run

        run(config.data, out_path)

    def split(out_path: Path) -> None:
        from lorefuse.data.split import split as run

        run(Dataset.open(folder / "ingest"), config.split, out_path)

    def knowledge() -> tuple[Dataset, ItemVectors]:
        dataset = Dataset.open(folder / "ingest")
        num_items = dataset.manifest["counts"]["items"]
        nothing, none = np.zeros((num_items, 0), np.float32), np.zeros(num_items, bool)
        return dataset, ItemVectors(nothing, nothing, none, none, {})

    def features(out_path: Path) -> None:
        from lorefuse.features.build import build_feature_data

        dataset, vectors = knowledge()
        build_feature_data(dataset, folder / "split", vectors, config, out_path)

    def join(out_path: Path) -> None:
        from lorefuse.feature_store import online
        from lorefuse.feature_store.materialize import apply_definitions, definitions_path
        from lorefuse.feature_store.retrieve import retrieve_training_set

        store_path, rows_path = out_path / "store", out_path / "rows"
        store_path.mkdir()
        rows_path.mkdir()
        apply_definitions(online.repo_config(store_path), definitions_path(), folder / "features")
        dataset, vectors = knowledge()
        retrieve_training_set(dataset, folder / "split", vectors, folder / "features", store_path, rows_path)

    return {"ingest": ingest, "split": split, "features": features, "join": join}


if __name__ == "__main__":
    main()
