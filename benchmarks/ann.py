"""Which library finds a user's nearest items fastest: usearch, faiss or hnswlib; the reason is decision 0005.

Vectors of 64 dimensions and unit length in clusters of very different sizes, as two-tower vectors are; users stand
between a few items of neighbouring clusters. Each index is built and asked on one thread, one user at a time, as a
request to the served model asks, in a process of its own. Times are CPU time, so that a busy machine tells the same.
For each index the effort of the search is raised until recall@100 against exact search reaches the bar; the table says
what that costs. `exact` is faiss's flat index.

    python benchmarks/ann.py [--items 100000] [--indices faiss_ivf usearch_f32 ...]
    python benchmarks/ann.py --items 1000000      # builds of minutes each, 1.5 GB

Peers live in an environment of their own: benchmarks/peers/ann.lock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIM, K, BAR, NUM_QUERIES = 64, 100, 0.95, 500
CONNECTIVITY, BUILD_EFFORT = 16, 128
EFFORTS = (100, 128, 192, 256, 384, 512, 768, 1024, 2048)
PROBES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256)
Vectors = NDArray[np.float32]
Search = Callable[[Vectors, int], NDArray[np.int64]]
"""Query (1, D), effort → rows of the nearest K."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--indices", nargs="+", choices=list(INDICES), default=list(INDICES))
    parser.add_argument("--child", choices=list(INDICES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child, args.folder)))
        return
    from benchmarks.peers.environment import peer_python

    python_path = peer_python("ann")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    print(f"{args.items:,} vectors of {DIM}, {NUM_QUERIES} users one by one, one thread, recall@{K} of at least {BAR}")
    print("| index | build s | MB on disk | load s | effort | recall@100 | ms a user | users/s |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), args.items)
        for name in args.indices:
            command = [str(python_path), __file__, "--child", name, "--folder", folder]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                print(f"| {name} | FAILED: {done.stderr.strip().splitlines()[-1]} |", flush=True)
                continue
            row = json.loads(done.stdout)
            print(
                f"| {name} | {row['build_s']:.1f} | {row['size_bytes'] / 1e6:.0f} | {row['load_s']:.2f} "
                f"| {row['effort']} | {row['recall']:.3f} | {row['latency_ms']:.3f} "
                f"| {1000 / row['latency_ms']:,.0f} |",
                flush=True,
            )


def write_data(folder_path: Path, num_items: int, seed: int = 0) -> None:
    """Write items, users and the exact answer."""
    rng = np.random.default_rng(seed)
    num_clusters = max(8, int(num_items**0.5))
    # Clusters stand around a few themes, and their sizes follow a power law.
    themes = rng.normal(size=(32, DIM))
    centres = themes[rng.integers(0, 32, num_clusters)] + 0.8 * rng.normal(size=(num_clusters, DIM))
    shares = 1 / np.arange(1, num_clusters + 1) ** 0.8
    cluster = rng.choice(num_clusters, num_items, p=shares / shares.sum())
    items = unit(centres[cluster] + 0.7 * rng.normal(size=(num_items, DIM)))
    liked = rng.integers(0, num_items, (NUM_QUERIES, 3))
    liked[:, 1] = rng.permutation(num_items)[:NUM_QUERIES]
    users = unit((items[liked] * np.array([1.0, 0.5, 0.25])[None, :, None]).sum(1) + 0.1 * rng.normal(size=(1, DIM)))
    exact = np.concatenate(
        [np.argsort(-(users[n : n + 50] @ items.T), axis=1)[:, :K] for n in range(0, len(users), 50)]
    )
    for name, array in (("items", items), ("users", users), ("exact", exact)):
        np.save(folder_path / f"{name}.npy", array)


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Return the rows at length 1."""
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def measure(name: str, folder_path: Path) -> dict[str, Any]:
    """Build, save, load and ask one index in this process."""
    items, users, exact = (np.load(folder_path / f"{part}.npy") for part in ("items", "users", "exact"))
    build, load, efforts = INDICES[name]
    path = folder_path / name
    start_s = time.process_time()
    build(items, str(path))
    build_s = time.process_time() - start_s
    start_s = time.process_time()
    search = load(str(path))
    load_s = time.process_time() - start_s
    for effort in efforts:
        found = [search(users[n : n + 1], effort) for n in range(len(users))]  # warms up as well
        recall = float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, exact, strict=True)]))
        if recall >= BAR:
            break
    timings = []
    for _ in range(3):
        start_s = time.process_time()
        for n in range(len(users)):
            search(users[n : n + 1], effort)
        timings.append((time.process_time() - start_s) * 1000 / len(users))
    size_bytes = path.stat().st_size
    path.unlink()
    return {
        "build_s": build_s,
        "load_s": load_s,
        "size_bytes": size_bytes,
        "effort": effort,
        "recall": recall,
        "latency_ms": min(timings),
    }


def build_faiss(factory: str) -> Callable[[Vectors, str], None]:
    """Return a builder of one of faiss's indices, named as its factory names them; {lists} grows with the items."""

    def build(items: Vectors, path: str) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        num_lists = int(2 ** round(np.log2(2 * len(items) ** 0.5)))
        index = faiss.index_factory(DIM, factory.format(lists=num_lists), faiss.METRIC_INNER_PRODUCT)
        if factory.startswith("HNSW"):
            index.hnsw.efConstruction = BUILD_EFFORT
        sample = np.random.default_rng(0).permutation(len(items))[: 50 * num_lists]
        index.train(items[sample])
        index.add(items)
        faiss.write_index(index, path)

    return build


def load_faiss(path: str) -> Search:
    """Open one of faiss's indices."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(path)
    graph = hasattr(index, "hnsw")
    parameters = faiss.SearchParametersHNSW if graph else faiss.SearchParametersIVF
    flat = isinstance(index, faiss.IndexFlat)

    def search(user: Vectors, effort: int) -> NDArray[np.int64]:
        given = None if flat else parameters(**{"efSearch" if graph else "nprobe": effort})
        return np.asarray(index.search(user, K, params=given)[1][0])

    return search


def build_usearch(dtype: str) -> Callable[[Vectors, str], None]:
    """Return a builder of usearch's graph with vectors kept as `dtype`."""

    def build(items: Vectors, path: str) -> None:
        from usearch.index import Index

        index = Index(ndim=DIM, metric="cos", dtype=dtype, connectivity=CONNECTIVITY, expansion_add=BUILD_EFFORT)
        index.add(np.arange(len(items), dtype=np.uint64), items, threads=1)
        index.save(path)

    return build


def load_usearch(path: str) -> Search:
    """Open usearch's graph."""
    from usearch.index import Index

    index = Index.restore(path)

    def search(user: Vectors, effort: int) -> NDArray[np.int64]:
        index.expansion_search = effort
        return np.asarray(index.search(user[0], K, threads=1).keys.astype(np.int64))

    return search


def build_hnswlib(items: Vectors, path: str) -> None:
    """Build hnswlib's graph."""
    import hnswlib

    index = hnswlib.Index(space="ip", dim=DIM)
    index.init_index(max_elements=len(items), M=CONNECTIVITY, ef_construction=BUILD_EFFORT, random_seed=0)
    index.add_items(items, num_threads=1)
    index.save_index(path)


def load_hnswlib(path: str) -> Search:
    """Open hnswlib's graph."""
    import hnswlib

    index = hnswlib.Index(space="ip", dim=DIM)
    index.load_index(path)

    def search(user: Vectors, effort: int) -> NDArray[np.int64]:
        index.set_ef(effort)
        return np.asarray(index.knn_query(user, K, num_threads=1)[0][0].astype(np.int64))

    return search


INDICES: dict[str, tuple[Callable[[Vectors, str], None], Callable[[str], Search], Iterable[int]]] = {
    "exact": (build_faiss("Flat"), load_faiss, (0,)),
    "faiss_ivf": (build_faiss("IVF{lists},Flat"), load_faiss, PROBES),
    "faiss_ivf_sq8": (build_faiss("IVF{lists},SQ8"), load_faiss, PROBES),
    "faiss_hnsw": (build_faiss(f"HNSW{CONNECTIVITY},Flat"), load_faiss, EFFORTS),
    "hnswlib": (build_hnswlib, load_hnswlib, EFFORTS),
    "usearch_f32": (build_usearch("f32"), load_usearch, EFFORTS),
    "usearch_f16": (build_usearch("f16"), load_usearch, EFFORTS),
    "usearch_i8": (build_usearch("i8"), load_usearch, EFFORTS),
}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
