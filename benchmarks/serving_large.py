"""`recommend` over gRPC on catalogues of 100,000 and a million items, beside the same peers as serving_peers.py.

Makes interactions with a power law (generate.py) and item vectors in clusters, takes them through the product's own
split, features, Feast, lists and export, deploys the version to a Triton of its own, and runs serving_peers.py there.
A blend finds what the ranker puts in order; with `--index` faiss does, and its recall against exact search is printed.
FastAPI + torch scores every item, as it was trained. Ranker and towers keep their initial weights: how fast they answer
does not depend on them, and neighbours are those of the items' vectors.

    python benchmarks/serving_large.py [--items 100000 1000000] [--index] [--rounds 3] [--seconds 4] [--folder …]

With --folder what was built is used again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from verdict import give

from lorefuse.deploy.ports import free_ports

TEXT_DIM, FULL_DIM, SEED = 64, 384, 0
MIN_RECALL, LARGEST = 0.95, 1_000_000


def main() -> None:
    """Build, deploy and measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rows-per-item", type=float, default=2.0, help="interactions, as a multiple of the items")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--index", action="store_true", help="two towers and an index in place of a blend")
    parser.add_argument("--folder", type=Path, help="keep what is built here; default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for num_items in args.items:
            path = (args.folder or Path(scratch)) / str(num_items)
            path.mkdir(parents=True, exist_ok=True)
            # Each in a process of its own, which ends with its memory.
            url = f"127.0.0.1:{free_ports().grpc}"
            environment = {**os.environ, "LOREFUSE_HOME": str(path / "home"), "LOREFUSE_TRITON_URL": url}
            build = [sys.executable, "-c", f"from serving_large import build_and_deploy as run; run({str(path)!r}, "
                     f"{num_items}, {args.users}, {int(num_items * args.rows_per_item)}, {args.index})"]  # fmt: skip
            folder = Path(__file__).parent
            environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(folder.parent)])
            subprocess.run(build, env=environment, check=True)
            command = [sys.executable, str(folder / "serving_peers.py"), "--rounds", str(args.rounds)]
            command += ["--catalogue", f"{num_items:,} items"]
            try:
                subprocess.run([*command, "--seconds", str(args.seconds)], env=environment, check=True)
            finally:
                stop = "from lorefuse.deploy.supervisor import Supervisor; Supervisor().stop()"
                subprocess.run([sys.executable, "-c", stop], env=environment, check=True)


def build_and_deploy(folder: str, num_items: int, num_users: int, num_rows: int, index: bool) -> None:
    """Make a version of a catalogue of this size and bring it to serve."""
    from lorefuse.deploy.deploy import deploy
    from lorefuse.export.bundle import Bundle

    path = Path(folder)
    bundle_path = build(path, num_items, num_users, num_rows, index)
    facts = Bundle.load(bundle_path).read_json("bundle.json")["parity"]
    recall = {name: value for name, value in facts.items() if "recall" in name or name.startswith("num_")}
    print(f"\n{num_items:,} items, {num_rows:,} interactions, {num_users:,} users", recall or "(one graph)")
    if "recall_at_100" in facts:
        recalls, goal = [facts["recall_at_100"]], MIN_RECALL if num_items >= LARGEST else None
        give("recommend, recall@100", f"{num_items:,} items", "exact search", recalls, goal=goal, unit="found")
    start_s = time.perf_counter()
    deploy(bundle_path, path / "store", 1)
    print(f"deployed and verified in {time.perf_counter() - start_s:.0f} s", flush=True)


def build(path: Path, num_items: int, num_users: int, num_rows: int, index: bool) -> Path:
    """Take a made-up catalogue through the product's steps; what is there already is used again."""
    from generate import generate

    from lorefuse.config import PipelineConfig, parse_config
    from lorefuse.core.atomic import atomic_folder
    from lorefuse.data.dataset import Dataset
    from lorefuse.data.ingest import ingest
    from lorefuse.data.split import split
    from lorefuse.export.write_bundle import write_bundle
    from lorefuse.feature_store.retrieve import retrieve_training_set
    from lorefuse.feature_store.store import apply_and_materialize
    from lorefuse.features.build import build_feature_data
    from lorefuse.lists.run import run_lists
    from lorefuse.models.build import build_ranker, save_ranker
    from lorefuse.retrieval import two_tower
    from lorefuse.training_set.arrays import TrainingSet
    from lorefuse.training_set.vectors import ItemVectors

    source = {"kind": "files", "timestamp_unit": "us", "item_categories": ["genre"], "item_title": "title"}
    source |= {f"{name}_path": str(path / "raw" / f"{name}.parquet") for name in ("interactions", "items")}
    served = (
        {"serving": {"retrieval": {"mode": "ann"}}} if index else {"candidates": {"mode": "blend", "ranker": "rows"}}
    )
    config: PipelineConfig = parse_config({"name": "large", "data": {"source": source}, **served})

    def step(name: str, make: Callable[[Path], Any]) -> Path:
        start_s = time.perf_counter()
        if not (path / name).is_dir():
            with atomic_folder(path / name) as draft_path:
                make(draft_path)
            print(f"{name} {time.perf_counter() - start_s:.0f} s", end="; ", flush=True)
        return path / name

    step("raw", lambda out: generate(out, num_rows, num_users, num_items, SEED))
    dataset = Dataset.open(step("dataset", lambda out: ingest(config.data, out)))
    parts = step("split", lambda out: split(dataset, config.split, out))
    vectors_path = step("vectors", lambda out: write_vectors(dataset, parts, out))
    vectors = ItemVectors.load(vectors_path)
    data_path = step("features", lambda out: build_feature_data(dataset, parts, vectors, config, out))
    store_path = path / "store"  # its place is written into Feast's registry, so it is made where it stays
    if not (store_path / "online_store.db").is_file():
        store_path.mkdir(exist_ok=True)
        apply_and_materialize(data_path, store_path)
    rows_path = step("rows", lambda out: retrieve_training_set(dataset, parts, vectors, data_path, store_path, out))

    rows = TrainingSet.load(rows_path)
    ranker = build_ranker(config.model, rows.spec, seed=SEED)
    ranker.prepare(rows)
    ranker_path = step("ranker", lambda out: save_ranker(ranker, config.model, out))
    lists_path = step(
        "lists-index" if index else "lists",
        lambda out: run_lists(rows_path, {"real": ranker_path}, vectors_path, config, out),
    )

    def bundle(out_path: Path) -> None:
        folders = (data_path, vectors_path, vectors_path, dataset.path)
        with mock.patch.object(two_tower, "train_epochs", _left_untrained):
            write_bundle(ranker, rows, config, *folders, {}, out_path, lists_path)

    return step("bundle-index" if index else "bundle", bundle)


def _left_untrained(towers: Any, *_: object, **__: object) -> list[dict[str, float]]:
    towers.eval()  # as training leaves them; else they would go on dropping ids, and no two vectors of an item be alike
    return []


def write_vectors(dataset: Any, split_path: Path, out_path: Path) -> None:
    """Write item vectors in clusters, a cluster a genre and more, as an encoder's are."""
    from safetensors.numpy import save_file

    from lorefuse.core.atomic import write_json
    from lorefuse.data.split import load_split
    from lorefuse.embedding.reduce import Reducer
    from lorefuse.training_set.vectors import ItemVectors

    items = dataset.items()
    rng, num_items = np.random.default_rng(SEED), len(items)
    genre = items["genre"].astype("category").cat.codes.to_numpy()
    themes = rng.normal(size=(genre.max() + 1, TEXT_DIM))
    centres = rng.normal(size=(max(8, int(num_items**0.5)), TEXT_DIM))
    text = themes[genre] + 0.8 * centres[rng.integers(0, len(centres), num_items)]
    text = (text + 0.7 * rng.normal(size=text.shape)).astype(np.float32)
    save_file({"full": text}, str(out_path / "item_embeddings.safetensors"))
    cutoff = load_split(split_path)[1]["data_cutoff"]
    ItemVectors(num_items, {"text": text}, {"data_cutoff": cutoff}).save(out_path)
    write_json(out_path / "embedding.json", {"address": "made up", "dim": FULL_DIM, "dtype": "float32"})
    components = rng.normal(size=(FULL_DIM, TEXT_DIM)).astype(np.float32)
    Reducer(np.zeros(FULL_DIM, np.float32), components, np.ones(1, np.float32)).save(out_path)


if __name__ == "__main__":
    main()
