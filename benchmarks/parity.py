"""Are our models as good as the same models of FuxiCTR, DeepCTR-Torch and RecBole? Same split, fields, settings, seeds.

MovieLens-100K as the product splits it (per-user time, 12 % of the items cold), 8 fields, no knowledge, no statistics:
what the peers can read. Every library trains with its own loop and its own early stopping on the validation loss, in an
environment of its own, and writes scores; all metrics are ours, from one function. What is equal: D, MLP widths,
dropout, Adam's step size, batch size, patience, no penalties, no weight average, no id dropout. Seeds alternate.

A peer's row ends with ours minus theirs and twice the standard error of that difference over seeds: "behind" means
below by more.

    python benchmarks/parity.py [--num-seeds 3] [--only deepfm dcn_v2 din] [--batch-size 2048] [--as-shipped]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from peers.environment import PeerUnavailableError
from peers.interchange import TestRows, write_movielens
from peers.protocol import Job
from peers.worker import OURS, Worker

from lorefuse.core.errors import LorefuseError
from lorefuse.training.metrics import judge

PEERS = {"deepfm": ("fuxictr", "deepctr_torch"), "dcn_v2": ("fuxictr",), "din": ("recbole",)}
HIDDEN_DIMS = {"deepfm": (128, 64), "dcn_v2": (128, 64), "din": (64, 32)}
METRICS = ("auc_warm", "gauc_warm", "ndcg_at_10_warm", "auc_cold")
AS_SHIPPED = "lorefuse, as shipped"


class Run(NamedTuple):
    """A trained model: its metrics in the order of `METRICS`, and seconds with evaluation."""

    metrics: list[float]
    elapsed_s: float


def main() -> None:
    """Print one table per family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--as-shipped", action="store_true", help="a row more: ours with its own defaults")
    args = parser.parse_args()
    if args.num_seeds < 2:
        parser.error("--num-seeds must be 2 or more: there is no spread of one run")
    with tempfile.TemporaryDirectory() as folder:
        folder_path = Path(folder)
        try:
            test = write_movielens(folder_path)
        except LorefuseError as error:
            print(f"parity: SKIPPED, {error}")
            return
        print(f"{len(test.label)} test rows, {int(test.cold.sum())} of them cold; {args.num_seeds} seeds")
        behind = 0
        for family in args.only:
            shared = {"batch_size": args.batch_size, "num_threads": args.num_threads}
            shared["learning_rate"] = args.learning_rate
            job = Job(family, hidden_dims=HIDDEN_DIMS[family], **shared)
            behind += compare(folder_path, job, test, args.num_seeds, as_shipped=args.as_shipped)
    if behind:
        sys.exit(f"parity: {behind} metrics are behind a peer's")


def compare(folder_path: Path, job: Job, test: TestRows, num_seeds: int, *, as_shipped: bool) -> int:
    """Train ours and the peers with every seed in turn; print a table, return how many metrics are behind."""
    with ExitStack() as stack:
        workers = {OURS: stack.enter_context(Worker(OURS, folder_path, job))}
        if as_shipped:
            workers[AS_SHIPPED] = stack.enter_context(Worker(OURS, folder_path, job, as_shipped=True))
        for name in PEERS[job.family]:
            try:
                workers[name] = stack.enter_context(Worker(name, folder_path, job))
            except PeerUnavailableError as error:
                print(f"{name}: SKIPPED, {error}")
        runs: dict[str, list[Run]] = {name: [] for name in workers}
        for seed in range(num_seeds):
            for name, worker in workers.items():
                runs[name].append(judged(worker, test, seed))
    print(f"\n{job.family:22}" + "".join(f"{name:>19}" for name in METRICS) + f"{'s a run':>10}")
    values = {name: np.array([run.metrics for run in of]) for name, of in runs.items()}
    for name, value in values.items():
        cells = [f"{mean:.4f} ± {sd:.4f}" for mean, sd in zip(value.mean(0), value.std(0, ddof=1), strict=True)]
        print(f"{name:22}" + "".join(f"{cell:>19}" for cell in cells) + f"{runs[name][0].elapsed_s:>10.0f}")
    return sum(report(name, values[OURS], values[name], num_seeds) for name in values if name not in (OURS, AS_SHIPPED))


def judged(worker: Worker, test: TestRows, seed: int) -> Run:
    """Train once and judge the test rows."""
    scores, elapsed_s = worker.fit(seed)
    metrics = judge(test.label, scores, test.user, test.cold, k=10, label_kind="binary")
    return Run([metrics[name] for name in METRICS], elapsed_s)


def report(name: str, ours: np.ndarray, theirs: np.ndarray, num_seeds: int) -> int:
    """Print ours minus theirs; return the number of metrics that are behind."""
    difference = ours.mean(0) - theirs.mean(0)
    twice_error = 2 * np.sqrt((ours.var(0, ddof=1) + theirs.var(0, ddof=1)) / num_seeds)
    behind = difference < -twice_error
    words = [
        f"{d:+.4f} ± {e:.4f}{' behind' if b else ''}" for d, e, b in zip(difference, twice_error, behind, strict=True)
    ]
    print(f"{'ours - ' + name:22}" + "".join(f"{word:>19}" for word in words), flush=True)
    return int(behind.sum())


if __name__ == "__main__":
    main()
