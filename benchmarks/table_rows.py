"""What does a training step cost as embedding tables grow, moved by rows or densely?

DeepFM with D = 16 on batches of 2,048 rows whose users and items are drawn evenly (the dearest case: hardly a row of a
batch is there twice), seven users to three items. All sizes and both ways take turns, a few steps each, so that a busy
machine slows all of them; a figure is the CPU time of the
median step of such a turn. Bringing all rows to the present, which happens
once an epoch, is timed apart.

With `--popular` one user or item in a hundred has half of the rows, wherever in the table it stands.

    python benchmarks/table_rows.py [--popular] [--rows 10000 100000 1000000 10000000] [--turns 9] [--steps 30]
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from lorefuse.models.ranker import Ranker
    from lorefuse.training.batches import Batches
    from lorefuse.training.optimizer import Optimizer
    from lorefuse.training_set.arrays import TrainingSet

BATCH_SIZE, NUM_ROWS = 2048, 500_000
USERS = 0.7
"""Share of the table rows that are users'."""
DENSE_STEPS = 1_000_000
"""Table rows that dense steps of one turn move at most, per step of the others: a turn of ten million takes minutes."""
POPULARITY = 6.6
"""Exponent by which one in a hundred is drawn half of the time: 0.01 to the power of 1 / 6.6."""
GOAL = 1.5
"""A step at most so many times as long at the most rows as at the fewest."""
Case = tuple[int, str]
"""Table rows; `rows` or `dense`."""


@dataclass
class Running:
    """A training that stands between two steps."""

    ranker: Ranker
    optimizer: Optimizer
    batches: Batches
    order: Iterator[Tensor]

    def steps(self, number: int) -> list[float]:
        """Make some steps; return the CPU seconds of each."""
        from lorefuse.training.step import step_loss

        seconds = []
        for _ in range(number):
            rows = next(self.order)
            start_s = time.process_time()
            self.optimizer.step(step_loss(self.ranker, self.batches, rows))
            seconds.append(time.process_time() - start_s)
        return seconds


def main() -> None:
    """Print a line a size: milliseconds a step both ways, and how many times those of the smallest size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--popular", action="store_true")
    parser.add_argument("--ways", nargs="+", choices=("rows", "dense"), default=["rows", "dense"])
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    import torch

    from lorefuse.cpu.allocator import keep_freed_memory

    keep_freed_memory()  # as `fit` does
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread, batches of {BATCH_SIZE:,}, {args.turns} turns of {args.steps} steps")
    running = {(rows, way): begin(rows, way, popular=args.popular) for way in args.ways for rows in args.rows}
    gc.disable()
    found: dict[Case, list[float]] = {case: [] for case in running}
    for turn in range(args.turns + 1):
        for (rows, way), training in running.items():
            number = args.steps if way == "rows" else max(1, min(args.steps, args.steps * DENSE_STEPS // rows // 10))
            figure = 1000 * median(training.steps(number))
            found[rows, way] += [figure] if turn else []  # the first turn warms up
    report(found, args.rows)
    for (rows, way), training in running.items():
        start_s = time.process_time()
        training.optimizer.settle()
        if way == "rows":
            print(f"{rows:>12,} rows brought to the present, once an epoch: {time.process_time() - start_s:.2f} s")


def report(found: dict[Case, list[float]], sizes: list[int]) -> None:
    """Print the table, and whether the goal was met."""
    from verdict import give

    print("\n| table rows | way | CPU ms a step (range) | times the smallest (range) |\n|---|---|---|---|")
    for (rows, way), figures in found.items():
        ratios = [one / least for one, least in zip(figures, found[sizes[0], way], strict=True)]
        print(f"| {rows:,} | {way} | {_spread(figures)} | {_spread(ratios)} |")
        if way == "rows" and rows == max(sizes):
            against = f"{sizes[0]:,} table rows"
            give("training step", f"{rows:,} table rows", against, ratios, goal=GOAL, unit="times", at_most=True)


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def begin(num_table_rows: int, way: str, *, popular: bool = False) -> Running:
    """Return a training with tables of so many rows together."""
    import torch

    from lorefuse.config import DeepFMConfig, TrainingConfig
    from lorefuse.models.build import build_ranker
    from lorefuse.training import optimizer
    from lorefuse.training.batches import Batches

    training_set = made_up(int(USERS * num_table_rows), num_table_rows - int(USERS * num_table_rows), popular)
    ranker = build_ranker(DeepFMConfig(embedding_dim=16), training_set.spec)
    ranker.prepare(training_set)
    usual, optimizer.BY_ROWS_ABOVE = optimizer.BY_ROWS_ABOVE, 0 if way == "rows" else 1 << 60
    moved_by = optimizer.Optimizer(ranker, TrainingConfig(batch_size=BATCH_SIZE))
    optimizer.BY_ROWS_ABOVE = usual

    def order() -> Iterator[Tensor]:
        while True:
            yield from torch.split(torch.randperm(NUM_ROWS), BATCH_SIZE)[:-1]

    ranker.train()
    return Running(ranker, moved_by, Batches(training_set, torch.device("cpu")), order())


def made_up(num_users: int, num_items: int, popular: bool) -> TrainingSet:
    """Return rows without knowledge, of users and items drawn evenly or by popularity."""
    import training

    training.NUM_USERS, training.NUM_ITEMS, training.NUM_ROWS = num_users, num_items, NUM_ROWS
    training_set = training.synthetic(0, 0)
    training_set.user_fields[:, 0] = np.arange(num_users) + 1
    training_set.item_fields[:, 0] = np.arange(num_items) + 1
    rng = np.random.default_rng(1)
    for rows, number in ((training_set.user_row, num_users), (training_set.item_row, num_items)) if popular else ():
        rows[:] = rng.permutation(number)[(number * rng.random(len(rows)) ** POPULARITY).astype(np.int64)]
    return training_set


if __name__ == "__main__":
    main()
