"""A large embedding table in training: a step reads and writes the rows of its batch, the others wait.

A row that waits is brought to the present when a batch asks for it, and all rows are before anyone looks at the whole
table (`settle`); what it gets then is what dense steps would have made of it, see `elapsed`.

Suffixes: ``n`` distinct rows of a batch, ``W`` columns of the table, ``S`` columns of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lorefuse.cpu.kernels import lookup
from lorefuse.training.elapsed import BETA_1, BETA_2, EPSILON, Elapsed

_ROWS_PER_BLOCK = 1 << 16
Exchange = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes the rows (n,) and gradients (n, W) of this process, returns those of all, averaged over processes."""


@dataclass(frozen=True)
class _Pulled:
    """What a batch asked for: distinct rows (n,), their weights (n, W), and what the store would hold of them now."""

    rows: Tensor
    weight: Tensor
    block: Tensor

    @property
    def grad(self) -> Tensor:
        found = self.weight.grad
        return torch.zeros_like(self.weight) if found is None else found


class RowTable:
    """The weights, moving average, moments and last step of a table's rows, side by side in one store.

    A row of the store is one stretch of memory, so that what a batch needs of it comes in at once: with an array for
    each, a step on ten million rows waits 1.6 times as long for memory.

    Args:
        table: (rows, W), trained in place: its data move into the store until `release`.
        elapsed: Shared by all tables of an optimiser.
        learning_rate: Adam's step size.
        decay: Decoupled weight decay.

    Attributes:
        averaged: (rows, W), the moving average, of which `settle` makes whatever waits.
        num_moved: Rows that the last step wrote.
    """

    def __init__(self, table: nn.Parameter, elapsed: Elapsed, *, learning_rate: float, decay: float) -> None:
        self.table, self._elapsed = table, elapsed
        self._learning_rate, self._kept = learning_rate, 1 - learning_rate * decay
        num_rows, self._width = table.shape
        self._store = table.new_zeros(num_rows, 4 * self._width + 1)  # the last column: float32 counts to 2²⁴ steps
        weight, average, self._first, self._second = self._parts(self._store)
        weight.copy_(table.detach())
        average.copy_(weight)
        table.data = weight
        self.averaged = nn.Parameter(average, requires_grad=False)
        self._pulled: list[_Pulled] = []
        self.num_moved = 0

    def pull(self, index: Tensor) -> Tensor:
        """Return the table's rows as of now, as ``functional.embedding(index, table)``; their gradients are kept here.

        Args:
            index: int64, any shape.
        """
        rows_n, place = torch.unique(index, return_inverse=True)
        block_nS = self._as_of_now(rows_n)
        weight_nW = block_nS[:, : self._width].clone().requires_grad_()
        self._pulled.append(_Pulled(rows_n, weight_nW, block_nS))
        return lookup(place, weight_nW)

    @torch.no_grad()
    def step(self, step: int, average_weight: float, exchange: Exchange | None = None) -> None:
        """Move the rows that were pulled, as AdamW does those with a gradient.

        Args:
            step: Its number, from 1.
            average_weight: Of the new weights in the moving average.
            exchange: Brings in the rows and gradients of other processes.
        """
        rows_n, grad_nW, block_nS = self._gradient(exchange)
        weight, average, first, second = self._parts(block_nS)
        first.lerp_(grad_nW, 1 - BETA_1)
        second.mul_(BETA_2).addcmul_(grad_nW, grad_nW, value=1 - BETA_2)
        root = second.sqrt().div_((1 - BETA_2**step) ** 0.5).add_(EPSILON)
        weight.mul_(self._kept).addcdiv_(first, root, value=-self._learning_rate / (1 - BETA_1**step))
        average.lerp_(weight, average_weight)
        block_nS[:, -1] = self._elapsed.num_steps + 1
        self._store.index_select(0, rows_n)  # brings rows back into the cache: quicker with than without
        self._store.index_copy_(0, rows_n, block_nS)
        self.num_moved = len(rows_n)

    @torch.no_grad()
    def settle(self) -> None:
        """Bring all rows to the present; its owner begins a new stretch of `Elapsed` then."""
        for block_nS in torch.split(self._store, _ROWS_PER_BLOCK):
            self._moved(block_nS)
            block_nS[:, -1] = 0

    def state(self) -> dict[str, Tensor]:
        """Return the moments of all rows, named as torch's Adam names them; to be asked for after `settle`."""
        return {"exp_avg": self._first, "exp_avg_sq": self._second}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the moments that `state` gave; weights and average are their owners' to restore."""
        self._first.copy_(state["exp_avg"])
        self._second.copy_(state["exp_avg_sq"])

    @torch.no_grad()
    def take_weights_of(self, rank: int) -> None:
        """Begin with the weights that one process of the group has."""
        weight = self.table.contiguous()
        dist.broadcast(weight, rank)
        self.table.copy_(weight)

    def release(self) -> None:
        """Give the table its own memory back."""
        self.table.data = self.table.data.clone(memory_format=torch.contiguous_format)

    def _gradient(self, exchange: Exchange | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return distinct rows, the sums of their gradients, and what the store would hold of them as of now."""
        pulled, self._pulled = self._pulled, []
        if len(pulled) == 1 and exchange is None:
            return pulled[0].rows, pulled[0].grad, pulled[0].block
        rows, grads = torch.cat([one.rows for one in pulled]), torch.cat([one.grad for one in pulled])
        rows_n, grad_nW = summed(rows, grads)
        if exchange is not None:
            rows_n, grad_nW = summed(*exchange(rows_n, grad_nW))
        return rows_n, grad_nW, self._as_of_now(rows_n)

    @torch.no_grad()
    def _as_of_now(self, rows_n: Tensor) -> Tensor:
        return self._moved(self._store.index_select(0, rows_n))

    def _moved(self, block_nS: Tensor) -> Tensor:
        """Apply the steps that rows have waited for, in place for a block of its own memory."""
        weight, average, first, second = self._parts(block_nS)
        factors = self._elapsed.since(block_nS[:, -1].long(), block_nS.dtype)
        change = first * -self._learning_rate
        root = second.sqrt()
        average.mul_(factors.average_kept).addcmul_(weight, factors.average_weight)
        average.addcdiv_(change * factors.average_moved, (root * factors.average_root).add_(EPSILON))
        weight.mul_(factors.kept)
        weight.addcdiv_(change.mul_(factors.moved), root.mul_(factors.root).add_(EPSILON))
        first.mul_(factors.first)
        second.mul_(factors.second)
        block_nS[:, -1] = self._elapsed.num_steps
        return block_nS

    def _parts(self, block_nS: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return views of weight, average, first and second moment, (n, W) each."""
        weight, average, first, second = torch.split(block_nS[:, :-1], self._width, dim=1)
        return weight, average, first, second


def summed(rows: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct rows in rising order, (n,), and the sum of each one's gradients, (n, W)."""
    distinct_n, place = torch.unique(rows, return_inverse=True)
    return distinct_n, grads.new_zeros(len(distinct_n), grads.shape[1]).index_add_(0, place, grads)
