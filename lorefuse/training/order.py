"""In which order a training reads its rows, and which of them each process of a group reads.

Up to `RUNS_ABOVE` train rows every process draws the whole order and computes its share of each batch. Beyond that rows
are dealt into runs of neighbours, and each batch takes as many rows of every run, drawn within it. A process of a group
owns some of the runs: it draws, reads and computes theirs alone, epoch after epoch. How many runs there are depends on
the batch size, never on the number of processes, so one process or several make the same batches.

Suffixes: ``R`` rows, ``P`` liked rows, ``C`` candidates of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lorefuse.config import TrainingConfig
from lorefuse.core.distributed_rng import Share
from lorefuse.core.schema import Split
from lorefuse.training.batches import moved
from lorefuse.training.listwise import Opponents
from lorefuse.training_set.arrays import TrainingSet

RUNS_ABOVE = 1_000_000
"""Train rows above which they are read by runs; below, a process holds all of them in some hundred megabytes."""
MAX_RUNS = 64
"""As many processes as `training.num_processes` may ask for."""


@dataclass(frozen=True)
class Drawn:
    """The rows of a step.

    Attributes:
        rows: int64 (B,), or candidates (P, C).
        share: Which part of the batch they are; None: the whole batch. A process without a row in a batch has one row
            here all the same, to be computed for nothing: all take every step together.
    """

    rows: Tensor
    share: Share | None = None

    @property
    def num_rows(self) -> int:
        """Rows (or liked rows) of the whole batch."""
        return len(self.rows) if self.share is None else self.share.num_rows


Draw = Callable[[], Iterator[Drawn]]
"""Returns the steps of an epoch."""


def order_of(
    training_set: TrainingSet,
    config: TrainingConfig,
    generator: torch.Generator,
    device: torch.device,
    *,
    rank: int = 0,
    size: int = 1,
) -> Draw:
    """Return what draws an epoch's steps.

    Args:
        training_set: The rows.
        config: Loss and batch size.
        generator: Moves on by an epoch each time.
        device: Of the rows.
        rank: Of this process in its group.
        size: Of the group.
    """
    train = training_set.rows_of(Split.TRAIN)
    if config.loss == "pointwise":
        if len(train) > RUNS_ABOVE:
            # A sampled negative reads the state of its positive: side by side they read the same pages of a file.
            train = train[np.argsort(training_set.state_row[train], kind="stable")]
            return Runs(train, config.batch_size, generator, device, rank=rank, size=size)
        rows = torch.from_numpy(train).to(device)
        return lambda: _whole(rows[moved(torch.randperm(len(rows), generator=generator), device)], config.batch_size)
    opponents = Opponents(training_set.user_row, training_set.label, train)
    num_negatives = 1 if config.loss == "bpr" else config.num_negatives
    per_step = max(1, config.batch_size // (1 + num_negatives))
    return lambda: _whole(moved(opponents.draw(num_negatives, generator), device), per_step)


class Runs:
    """Rows by runs of neighbours; called for the steps of an epoch.

    Args:
        rows: int64 (R,), neighbours side by side.
        batch_size: Rows of a step at most: the largest multiple of the number of runs.
        generator: Gives a seed an epoch, from which each run has draws of its own.
        device: Of the rows.
        rank: Of this process.
        size: Processes.

    Attributes:
        own: The rows of this process, int64.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        batch_size: int,
        generator: torch.Generator,
        device: torch.device,
        *,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        num_runs = min(MAX_RUNS, batch_size)
        self._runs = np.array_split(rows, num_runs)
        self._per_run, self._generator, self._device = batch_size // num_runs, generator, device
        self._alone = size == 1
        mine = np.array_split(np.arange(num_runs), size)[rank]
        self._first, self._end = (int(mine[0]), int(mine[-1]) + 1) if len(mine) else (0, 0)
        self.own = np.concatenate([self._runs[number] for number in mine]) if len(mine) else rows[:0]
        self._spare = torch.from_numpy(self.own[:1] if len(self.own) else rows[:1])

    def __call__(self) -> Iterator[Drawn]:
        """Yield the steps of an epoch; each row of this process is in one of them."""
        seed = int(torch.randint(2**62, (1,), generator=self._generator))
        drawn = [self._shuffled(number, seed) for number in range(self._first, self._end)]
        lengths = np.array([len(run) for run in self._runs])
        for start in range(0, int(lengths.max()), self._per_run):
            counts = np.clip(lengths - start, 0, self._per_run)
            first, end = int(counts[: self._first].sum()), int(counts[: self._end].sum())
            parts = [run[start : start + self._per_run] for run in drawn]
            rows = torch.cat(parts) if end > first else self._spare
            share = Share(first, end - first, int(counts.sum()))
            yield Drawn(moved(rows, self._device), None if self._alone else share)

    def _shuffled(self, number: int, seed: int) -> Tensor:
        run = self._runs[number]
        order = torch.randperm(len(run), generator=torch.Generator().manual_seed(seed + number))
        return torch.from_numpy(run)[order]


def _whole(order: Tensor, per_step: int) -> Iterator[Drawn]:
    return (Drawn(rows) for rows in torch.split(order, per_step))
