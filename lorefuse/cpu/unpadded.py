"""Encoders like BERT on texts laid one after the other: nothing is padded, nothing masked.

The tokens of all texts are the rows of one matrix. Products, sums and norms work on real tokens alone; query, key and
value come out of one product; attention, the only place where tokens meet, goes run by run, texts of equal length
together. ByteTransformer (arXiv:2210.03052) does without padding in this way, with kernels of its own; here packing
sorts texts by length, so runs are long and torch's products do.

Suffixes: ``N`` tokens of all texts, ``G`` texts of a run times heads, ``T`` tokens of each, ``D`` width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

KINDS = ("bert", "roberta", "xlm-roberta")
"""Model types whose tokens meet in `attention.self` alone, whatever their positions."""
NUM_SCORES = 750_000
"""Scores of a run, all heads: what a core keeps in its caches between the steps of attention."""
LONGEST = 1024
"""Tokens of a text; attention of longer ones takes torch's way, which does not write all scores down."""
LEAST_TOTAL, LARGEST_TOTAL = 1e-30, 1e30
"""Between them, exponentials have neither vanished nor overflown, though no maximum was taken off."""


class Run(NamedTuple):
    """Texts of equal length, one after the other.

    Attributes:
        num_texts: How many.
        num_tokens: Of each.
    """

    num_texts: int
    num_tokens: int


_runs: ContextVar[Sequence[Run]] = ContextVar("runs of the rows in hand")


class RowAttention(nn.Module):
    """Self-attention of a BERT on rows, without gradients; it stands for the layer of transformers it is made from.

    Args:
        attention: The layer, with its `query`, `key` and `value`.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.num_heads, self.scaling = int(attention.num_attention_heads), float(attention.scaling)
        parts = [attention.query, attention.key, attention.value]
        with torch.no_grad():
            weight = torch.cat([part.weight for part in parts])
            bias = torch.cat([part.bias for part in parts])
        self.joined = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.joined.weight, self.joined.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        """Return what each token found, (1, N, heads x D), and no weights; inside `laid_out` alone."""
        joined = self.joined(hidden_states)[0]
        dim = joined.shape[1] // (3 * self.num_heads)
        found = joined.new_empty(len(joined), self.num_heads * dim)
        start = 0
        for run in _runs.get():
            end = start + run.num_texts * run.num_tokens
            of_run = joined[start:end].view(*run, 3, self.num_heads, dim).permute(2, 0, 3, 1, 4)
            query_GTD, key_GTD, value_GTD = of_run.reshape(3, -1, run.num_tokens, dim).unbind()
            found_GTD = attend(query_GTD, key_GTD, value_GTD, self.scaling)
            heads_beside = found_GTD.view(run.num_texts, self.num_heads, run.num_tokens, dim).transpose(1, 2)
            found[start:end].view(*run, self.num_heads, dim).copy_(heads_beside)
            start = end
        return found.unsqueeze(0), None


def attend(query_GTD: Tensor, key_GTD: Tensor, value_GTD: Tensor, scaling: float) -> Tensor:
    """Return softmax(query key' scaling) value, (G, T, D): two products, one exponential over all scores, one sum.

    No maximum is taken off before the exponential; where a sum shows that one was needed, softmax is done over. Scores
    come in powers of two, whose exponential is the cheaper one.
    """
    if query_GTD.shape[1] > LONGEST:
        return nn.functional.scaled_dot_product_attention(query_GTD, key_GTD, value_GTD, scale=scaling)
    nothing = query_GTD.new_zeros(1)

    def scores(factor: float) -> Tensor:
        return torch.baddbmm(nothing, query_GTD, key_GTD.transpose(1, 2), beta=0, alpha=factor)

    weights_GTT = scores(scaling / math.log(2)).exp2_()
    total_GT1 = weights_GTT.sum(-1, keepdim=True)
    least, largest = torch.aminmax(total_GT1)
    if float(least) > LEAST_TOTAL and float(largest) < LARGEST_TOTAL:
        return torch.bmm(weights_GTT, value_GTD).div_(total_GT1)
    return torch.bmm(scores(scaling).softmax(-1), value_GTD)


def lay_in_rows(model: Any) -> Any:
    """Give a model that can take rows its `RowAttention`s; return it, or the model as it was.

    Args:
        model: A transformers model in evaluation mode on a CPU. If it takes rows it takes nothing else afterwards: call
            it through `encode_rows`; it cannot be trained, saved or exported.
    """
    if model.device.type != "cpu" or model.config.model_type not in KINDS or model.config.is_decoder:
        return model
    for layer in model.encoder.layer:
        layer.attention.self = RowAttention(layer.attention.self)
    return model


def takes_rows(model: Any) -> bool:
    """Tell whether a model has been laid in rows."""
    return any(isinstance(module, RowAttention) for module in model.modules())


def encode_rows(model: Any, token_ids: Sequence[Sequence[int]], pool: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Encode texts in rows.

    Args:
        model: From `lay_in_rows`.
        token_ids: Of each text, none empty; equal lengths side by side are faster.
        pool: Hidden states, (texts, tokens, hidden size), and a mask of ones, (texts, tokens), to a vector each.

    Returns:
        Vectors, (texts, hidden size), float32.
    """
    runs = runs_of([len(ids) for ids in token_ids], model.config.num_attention_heads)
    tokens = torch.from_numpy(np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids]))
    positions = torch.from_numpy(np.concatenate([_positions(model, ids) for ids in token_ids]))
    pooled = []
    with torch.inference_mode(), _laid_out(runs):
        hidden_N = model(input_ids=tokens.unsqueeze(0), position_ids=positions.unsqueeze(0)).last_hidden_state[0]
        for run, hidden in zip(runs, hidden_N.split([run.num_texts * run.num_tokens for run in runs]), strict=True):
            pooled.append(pool(hidden.unflatten(0, run), torch.ones(run)))
        return torch.cat(pooled)


def runs_of(lengths: Sequence[int], num_heads: int) -> list[Run]:
    """Group equal lengths that stand side by side, as many texts as `NUM_SCORES` lets together.

    Example:
        >>> runs_of([500, 500, 3, 3, 3], 2)
        [Run(num_texts=1, num_tokens=500), Run(num_texts=1, num_tokens=500), Run(num_texts=3, num_tokens=3)]
    """
    runs = []
    for num_tokens, group in groupby(lengths):
        left, most = len(list(group)), max(1, NUM_SCORES // (num_heads * num_tokens**2))
        while left > 0:
            runs.append(Run(min(left, most), num_tokens))
            left -= most
    return runs


def pack_rows(lengths: NDArray[np.int64], tokens_per_batch: int, num_workers: int = 1) -> list[NDArray[np.int64]]:
    """Group rows by length, longest first, into batches of about equally many tokens.

    Args:
        lengths: Tokens of each text, at least one text.
        tokens_per_batch: About the most in a batch.
        num_workers: What goes into several batches goes into a multiple of so many: all end together.

    Example:
        >>> [rows.tolist() for rows in pack_rows(np.array([5, 1, 2, 9]), 10)]
        [[3], [0, 2, 1]]
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    num_batches = -(-int(ends[-1]) // tokens_per_batch)
    if num_batches > 1:
        num_batches = -(-num_batches // num_workers) * num_workers
    middles = ends - lengths[order] / 2
    cuts = np.searchsorted(middles, np.arange(1, num_batches) * (ends[-1] / num_batches))
    return [rows for rows in np.split(order, cuts) if len(rows)]


def _positions(model: Any, ids: Sequence[int]) -> NDArray[np.int64]:
    """RoBERTa counts from the token after padding's, and leaves out padding tokens in a text."""
    first = getattr(model.embeddings, "padding_idx", None)
    if first is None:
        return np.arange(len(ids), dtype=np.int64)
    counts = np.asarray(ids, dtype=np.int64) != first
    positions: NDArray[np.int64] = np.cumsum(counts) * counts + first
    return positions


@contextmanager
def _laid_out(runs: Sequence[Run]) -> Iterator[None]:
    """Say for the calling thread what the rows are."""
    token = _runs.set(runs)
    try:
        yield
    finally:
        _runs.reset(token)
