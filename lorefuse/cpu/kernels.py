"""Operations of the training step whose gradients are written by hand: the same numbers in fewer passes over memory.

Each has a plain twin in the docstring, which the tests hold it to. Layers use the twin outside of training, so that
graphs can be exported, and a step that torch compiles (`training.compiled`) consists of the twins.

Suffixes: ``B`` rows, ``F`` fields, ``D`` id dim, ``W`` = 1 + D columns of a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lorefuse.core.distributed_rng import whole_batch
from lorefuse.cpu.matmul import product, sum_of_outer

_LEVELS = 1 << 16
"""Random numbers of dropout have 16 bits, so its share is rounded to 1 / 65,536."""


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, index: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.num_rows = len(table)
        return torch.nn.functional.embedding(index, table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        (index,), (grad,) = ctx.saved_tensors, grads
        total = grad.new_zeros(ctx.num_rows, grad.shape[-1])
        return None, total.index_add_(0, index.flatten(), grad.flatten(0, -2))


class _SplitFirst(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, found_BFW: Tensor) -> tuple[Tensor, Tensor]:
        return found_BFW[..., 0].sum(1), found_BFW[..., 1:].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad_first_B, grad_BFD = grads
        first_BF1 = grad_first_B[:, None, None].expand(-1, grad_BFD.shape[1], 1)
        return torch.cat([first_BF1, grad_BFD], dim=2)


class _SumAndPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors_BFD: Tensor) -> tuple[Tensor, Tensor]:
        sum_BD = vectors_BFD.sum(1)
        ctx.save_for_backward(vectors_BFD, sum_BD)
        flat = vectors_BFD.flatten(1)
        return sum_BD, 0.5 * ((sum_BD * sum_BD).sum(1) - (flat * flat).sum(1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        vectors_BFD, sum_BD = ctx.saved_tensors
        grad_sum_BD, grad_pairs_B = grads
        shared_BD = torch.addcmul(grad_sum_BD, sum_BD, grad_pairs_B[:, None])
        return torch.addcmul(shared_BD.unsqueeze(1), vectors_BFD, grad_pairs_B[:, None, None], value=-1)


class _Crosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first_BW: Tensor, *weights_and_biases: Tensor) -> Tensor:
        weights = weights_and_biases[::2]
        lasts, gates = [first_BW], []
        for weight, bias in zip(weights, weights_and_biases[1::2], strict=True):
            gates.append(product(lasts[-1], weight, bias))
            lasts.append(torch.addcmul(lasts[-1], first_BW, gates[-1]))
        ctx.save_for_backward(*lasts[:-1], *gates, *weights)
        return lasts[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        depth = len(ctx.saved_tensors) // 3
        lasts, gates, weights = (ctx.saved_tensors[n * depth : (n + 1) * depth] for n in range(3))
        first_BW, grad_BW = lasts[0], grads[0]
        grad_first_BW = grad_BW * gates[-1]
        found: list[Tensor] = []
        for last_BW, gate_BW, weight in zip(*map(reversed, (lasts, gates, weights)), strict=True):
            grad_gate_BW = grad_BW * first_BW
            if found:
                grad_first_BW.addcmul_(grad_BW, gate_BW)
            found = [sum_of_outer(grad_gate_BW, last_BW), grad_gate_BW.sum(0), *found]
            grad_BW = product(grad_gate_BW, weight.T).add_(grad_BW)
        return grad_first_BW.add_(grad_BW), *found


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, share: float) -> Tensor:
        num_dropped = round(share * _LEVELS)
        ctx.scale = _LEVELS / (_LEVELS - num_dropped)
        num_rows, own = whole_batch(len(values))
        shape = (num_rows, *values.shape[1:])
        num_draws = math.prod(shape)
        bits = torch.empty((num_draws + 3) // 4, dtype=torch.int64, device=values.device)
        bits.random_(-(2**63), None)
        draws = bits.view(torch.int16)[:num_draws].view(shape)[own]
        kept = torch.empty_like(values)
        torch.ge(draws, num_dropped - _LEVELS // 2, out=kept)
        kept.mul_(values).clamp_min_(0).mul_(ctx.scale)
        ctx.save_for_backward(kept)
        return kept

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        # An output is above 0 exactly where its input was and the draw kept it, so no mask need be stored.
        grad = torch.ops.aten.threshold_backward(grads[0], kept, 0)
        return grad.mul_(ctx.scale), None


def lookup(index: Tensor, table: Tensor) -> Tensor:
    """Return the table's rows, as ``functional.embedding(index, table)``; a third of its backward time on a CPU.

    Args:
        index: int64, any shape.
        table: (rows, W).
    """
    if table.device.type != "cpu" or torch.compiler.is_compiling():  # `index_add_` sums in no fixed order on a GPU
        return torch.nn.functional.embedding(index, table)
    found: Tensor = _Lookup.apply(index, table)  # type: ignore[no-untyped-call]
    return found


def split_first(found_BFW: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``found[..., 0].sum(1)``, (B,), and ``found[..., 1:]``, (B, F, D), contiguous."""
    if torch.compiler.is_compiling():
        return found_BFW[..., 0].sum(1), found_BFW[..., 1:]
    parts: tuple[Tensor, Tensor] = _SplitFirst.apply(found_BFW)  # type: ignore[no-untyped-call]
    return parts


def sum_and_pairs(vectors_BFD: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``v.sum(1)``, (B, D), and the sum of all pairs' dot products, (B,): ``½ Σ_d ((Σ_f v)² − Σ_f v²)``.

    Source: Factorization Machines, Rendle, ICDM 2010, lemma 3.1.
    """
    if torch.compiler.is_compiling():
        return plain_sum_and_pairs(vectors_BFD)
    parts: tuple[Tensor, Tensor] = _SumAndPairs.apply(vectors_BFD)  # type: ignore[no-untyped-call]
    return parts


def plain_sum_and_pairs(vectors_BFD: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `sum_and_pairs` does, by torch's own operations."""
    sum_BD = vectors_BFD.sum(1)
    # One sum over all squares: onnxruntime takes ten times as long for one over a dimension in the middle.
    return sum_BD, 0.5 * (sum_BD.square().sum(1) - vectors_BFD.flatten(1).square().sum(1))


def crosses(first_BW: Tensor, layers: Iterable[nn.Module]) -> Tensor:
    """Return ``x_L`` of ``x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l``, (B, W): a quarter less time beside the products.

    Args:
        first_BW: ``x_0``.
        layers: `dcn_v2.CrossLayer` of full rank, or linear layers: ``W_l`` (W, W), then ``b_l``.

    Source: DCN-V2, arXiv:2008.13535, eq. 1.
    """
    flat = [parameter for layer in layers for parameter in layer.parameters()]
    last_BW: Tensor = _Crosses.apply(first_BW, *flat)  # type: ignore[no-untyped-call]
    return last_BW


def relu_dropout(values: Tensor, share: float) -> Tensor:
    """Return ``functional.dropout(relu(values), share)`` with draws of 16 bits from torch's generator.

    Drawing 64 bits at once for four values takes a tenth of the time of a Bernoulli draw each, which was a fifth of a
    training step.

    Args:
        values: float32, any shape, contiguous.
        share: Share that is dropped, 0 to 1, rounded to 1 / 65,536.
    """
    if torch.compiler.is_compiling():
        return torch.nn.functional.dropout(torch.relu(values), share)
    dropped: Tensor = _ReluDropout.apply(values, share)  # type: ignore[no-untyped-call]
    return dropped
