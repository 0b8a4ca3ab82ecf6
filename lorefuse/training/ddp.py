"""One training shared by several processes (torch's DistributedDataParallel), with the result of one alone.

Of each batch a process reads and computes its own share (`order`), and gradients are averaged. Random draws are made
for the whole batch (`core.distributed_rng`). The alignment loss is not a mean over rows, so every process computes it
from the items of the whole batch. Two processes therefore give the weights of one, but for the order of sums.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lorefuse.core.distributed_rng import Share, sharing
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.models.ranker import Ranker
from lorefuse.training.batches import Batches
from lorefuse.training.device import local_device
from lorefuse.training.optimizer import Optimizer
from lorefuse.training.order import Drawn
from lorefuse.training.step import predict, step_loss
from lorefuse.training_set.arrays import TrainingSet

FEW_ROWS = 1000
"""Train rows that a process other than the first reads to prepare a ranker."""


@contextmanager
def process_group(device: str) -> Iterator[int]:
    """Join the group that torchrun has started, where it has; yield this process's rank, 0 for one alone.

    Args:
        device: `training.device`; gloo carries gradients between CPUs, NCCL between GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield 0
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(local_device(device))
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def in_group() -> bool:
    """Return whether this process shares its training with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def prepare(ranker: Ranker, training_set: TrainingSet) -> None:
    """Fit a ranker's constants on train rows; in a group the first process does, and `Shared` tells the others.

    The others fit theirs on `FEW_ROWS`, for their shapes alone, and so read no rows but their own.
    """
    if in_group() and dist.get_rank():
        codes = training_set.split_code.copy()
        codes[training_set.rows_of(Split.TRAIN)[FEW_ROWS:]] = SPLIT_CODES[Split.EXCLUDED]
        training_set = dataclasses.replace(training_set, split_code=codes)
    ranker.prepare(training_set)


class Shared:
    """A ranker's training steps in a process group.

    Args:
        ranker: Trained in place; all processes begin with the weights of the first.
        batches: The rows; of those in a mapped file a process reads what it computes.
        optimizer: The ranker's. Of tables that it moves by rows, the rows of a batch and their gradients are what
            processes tell each other, never the table.
    """

    def __init__(self, ranker: Ranker, batches: Batches, optimizer: Optimizer) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._batches, self._needs_all = batches, ranker.has_auxiliary_loss
        step = _Step(ranker, batches)
        for table in optimizer.tables.values():
            table.take_weights_of(0)
        for buffer in ranker.buffers():  # constants, which the first process has read all rows for
            dist.broadcast(buffer, 0)
        optimizer.exchange = self.exchange
        tables = [f"ranker.{name}" for name in optimizer.tables]
        ignore = nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(step, tables)  # type: ignore[no-untyped-call]
        # Buffers are constants and do not change. A family may leave a parameter unused.
        self._step = nn.parallel.DistributedDataParallel(step, broadcast_buffers=False, find_unused_parameters=True)

    @classmethod
    def joined(cls, ranker: Ranker, batches: Batches, optimizer: Optimizer) -> Shared | None:
        """Return the shared training of the group that this process is in; None for a process alone."""
        return cls(ranker, batches, optimizer) if in_group() else None

    def __call__(self, drawn: Drawn) -> Tensor:
        """Return this process's part of a batch's loss; the mean of the parts is the batch's loss."""
        if drawn.share is None:
            own, share = self._own(drawn.rows)
            items = self._batches.item_row.index_select(0, drawn.rows.flatten())
        else:
            own, share = drawn.rows, drawn.share
            items = self._items_of_all(own[: share.num_own])
        num_own = share.num_own
        if not num_own:  # all processes take every step together: one without rows computes one for nothing
            own, share = drawn.rows[:1], Share(0, 1, share.num_rows)
        with sharing(share):
            loss: Tensor = self._step(own, items, num_own * self.size / share.num_rows)
        return loss

    def exchange(self, rows: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of all processes side by side, (n,), and their gradients over the number of processes."""
        return torch.cat(self._gathered(rows)), torch.cat(self._gathered(grads)) / self.size

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a figure over the processes."""
        value = value.clone()
        dist.all_reduce(value)
        return value / self.size

    def predict(self, ranker: Ranker, rows: Tensor) -> Tensor:
        """Return the logits of some rows, as `step.predict`, each process computing its share."""
        own, _ = self._own(rows)
        logits = predict(ranker, self._batches, own if len(own) else rows[:1])
        lengths = [len(part) for part in torch.tensor_split(rows, self.size)]
        return torch.cat([part[:length] for part, length in zip(self._gathered(logits), lengths, strict=True)])

    def _gathered(self, own: Tensor) -> list[Tensor]:
        """Return the tensors of all processes by rank; they may differ in length."""
        length = torch.tensor([len(own)], device=own.device)
        lengths = [torch.empty_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length)
        sent = own.new_zeros(max(int(one) for one in lengths), *own.shape[1:])  # collectives take equal lengths alone
        sent[: len(own)] = own
        parts = [torch.empty_like(sent) for _ in lengths]
        dist.all_gather(parts, sent)
        return [part[: int(one)] for part, one in zip(parts, lengths, strict=True)]

    def _own(self, rows: Tensor) -> tuple[Tensor, Share]:
        """Return this process's rows of a whole batch; none for the last ones of more processes than rows."""
        parts = torch.tensor_split(rows, self.size)
        own, first = parts[self.rank], sum(len(part) for part in parts[: self.rank])
        return own, Share(first, len(own), len(rows))

    def _items_of_all(self, own: Tensor) -> Tensor:
        """Return the item rows of all processes' parts of a batch, where the loss needs them."""
        items = self._batches.item_row.index_select(0, own)
        return torch.cat(self._gathered(items)) if self._needs_all else items


class _Step(nn.Module):
    """What DistributedDataParallel wraps: it hooks onto parameters in `forward`, which here returns the loss."""

    def __init__(self, ranker: Ranker, batches: Batches) -> None:
        super().__init__()
        self.ranker = ranker
        self._batches = batches

    def forward(self, own: Tensor, items: Tensor, weight: float) -> Tensor:
        return step_loss(self.ranker, self._batches, own, items=items, weight=weight)
