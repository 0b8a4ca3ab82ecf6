"""Training throughput beside FuxiCTR, DeepCTR-Torch and pytorch-widedeep: rows a second at equal work.

Same rows (MovieLens-100K, 8 fields), model, widths, batch size, optimiser (Adam without penalties) and number of
threads. Each library runs in a process and an environment of its own (`benchmarks/peers`), and epochs alternate: ours,
peer, ours, peer, so that a busy machine slows all of them. A ratio is taken within a round; the median over rounds is
printed with its range. Two ways of a peer are timed: its own loop with its own data loader, and its training steps
alone on batches that are ready tensors. Ours is always the whole loop: shuffling, gathering batches from tables and
steps, without the weight average, which no peer has. Ratios of CPU seconds stand beside those of wall seconds: other
processes disturb them less.

    python benchmarks/training_peers.py [--families deepfm dcn_v2] [--batch-sizes 4096 2048] [--threads 1 2]
                                        [--repeats 5] [--max-rows 0] [--hidden 128 64] [--dim 16] [--items 0]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from peers.environment import PeerUnavailableError
from peers.interchange import keep_train_rows, write_movielens, write_synthetic
from peers.protocol import TRAIN, Job, Rows, Timed, Work
from peers.worker import OURS, Worker
from verdict import give, spread

from lorefuse.core.errors import LorefuseError

PEERS = {"deepfm": ("fuxictr", "deepctr_torch", "widedeep"), "dcn_v2": ("fuxictr", "deepctr_torch")}
GOALS = {"fuxictr": 2.0, "deepctr_torch": 3.0, "widedeep": 4.0}
WAYS: tuple[Work, ...] = ("own", "steps")


def main() -> None:
    """Print one table per family, batch size and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--peers", nargs="+", default=["fuxictr", "deepctr_torch", "widedeep"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[4096, 2048])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hidden", nargs="+", type=int, default=[128, 64])
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--max-rows", type=int, default=0, help="train on so many rows an epoch; 0: on all")
    parser.add_argument("--items", type=int, default=0, help="made-up rows with as many items, and users, instead")
    args = parser.parse_args()
    num_cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        folder_path = Path(folder)
        if args.items:
            write_synthetic(folder_path, num_rows=70_000, num_users=args.items, num_items=args.items)
        else:
            try:
                write_movielens(folder_path)
            except LorefuseError as error:
                print(f"training_peers: SKIPPED, {error}")
                return
        if args.max_rows:
            keep_train_rows(folder_path, args.max_rows)
        rows = Rows.load(folder_path)
        num_rows = len(rows.of(TRAIN))
        print(f"{num_rows} rows, {len(rows.names)} fields of {sum(rows.sizes)} categories, {num_cores} cores")
        for family in args.families:
            for num_threads in (number for number in args.threads if number <= num_cores):
                for batch_size in args.batch_sizes:
                    job = Job(
                        family,
                        embedding_dim=args.dim,
                        hidden_dims=tuple(args.hidden),
                        batch_size=batch_size,
                        num_threads=num_threads,
                    )
                    compare(folder_path, job, [name for name in PEERS[family] if name in args.peers], args.repeats)


def compare(folder_path: Path, job: Job, peers: list[str], repeats: int) -> None:
    """Alternate epochs of ours and of every peer; print ratios."""
    print(f"\n{job.family}, D = {job.embedding_dim}, MLP {job.hidden_dims}, batch {job.batch_size}, ", end="")
    print(f"{job.num_threads} threads, {repeats} rounds\n{'':34}rows/s    rows/CPU s  ours is faster by (CPU time)")
    num_rows = len(Rows.load(folder_path).of(TRAIN))
    with ExitStack() as stack:
        workers = {OURS: stack.enter_context(Worker(OURS, folder_path, job))}
        for name in peers:
            try:
                workers[name] = stack.enter_context(Worker(name, folder_path, job))
            except PeerUnavailableError as error:
                print(f"{name}: SKIPPED, {error}")
        cases: list[tuple[str, Work]] = [(name, way) for name in workers if name != OURS for way in WAYS]
        ours: list[Timed] = []
        theirs: dict[tuple[str, Work], list[tuple[Timed, Timed]]] = {case: [] for case in cases}
        for name, worker in workers.items():
            for way in WAYS if name != OURS else WAYS[:1]:
                worker.epoch(way)  # warms caches and allocators up
        for _ in range(repeats):
            for name, way in cases:  # a fresh epoch of ours beside each of theirs
                mine = workers[OURS].epoch("own")
                theirs[name, way].append((mine, workers[name].epoch(way)))
                ours.append(mine)
    print(f"{OURS:34}{rates(ours, num_rows)}")
    for (name, way), pairs in theirs.items():
        label = f"{name}, {'own loop and loader' if way == 'own' else 'steps on ready tensors'}"
        wall, cpu = ([peer[n] / mine[n] for mine, peer in pairs] for n in (0, 1))
        case = f"{job.family}, batch {job.batch_size}, {job.num_threads} thread{'s' if job.num_threads > 1 else ''}"
        # A peer's steps alone are less work than ours, which shuffles and gathers: shown, without a goal.
        give("training", case, label, wall, goal=GOALS[name] if way == "own" else None)
        print(f"{label:34}{rates([peer for _, peer in pairs], num_rows)}  {spread(wall)}  ({spread(cpu)})", flush=True)


def rates(times: list[Timed], num_rows: int) -> str:
    """Return median rows per second and per CPU second."""
    wall, cpu = (median(time[n] for time in times) for n in (0, 1))
    return f"{num_rows / wall:>8,.0f}  {num_rows / cpu:>10,.0f}"


if __name__ == "__main__":
    main()
