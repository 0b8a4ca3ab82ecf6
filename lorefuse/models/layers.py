"""Layers shared by the rankers.

Suffixes: ``B`` rows, ``F`` fields, ``D`` id dim, ``E`` knowledge dim, ``M`` padded columns, ``P`` numerics.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lorefuse.core.distributed_rng import whole_batch
from lorefuse.cpu.kernels import lookup, relu_dropout, split_first
from lorefuse.cpu.matmul import Dense
from lorefuse.training_set.spec import CategoricalField, MultiField

MAX_SIGMAS = 5.0
"""Standardised values beyond this are cut, so that no odd row can dominate a batch."""


class FusedEmbedding(nn.Module):
    """All fields of one side in one table: a single lookup, each field shifted by its offset.

    Column 0 of the table is the field's first-order weight (the linear part of FM); the other D are its vector.

    Args:
        fields: Fields with one category; the first one is the id.
        multi_fields: Fields with several categories, averaged; 0 is padding.
        embedding_dim: D; 0 leaves the first-order weights alone.

    Attributes:
        table: (rows of all fields, 1 + D).
        pull: Looks rows up in training in place of the table, where an optimiser moves it by rows: index → rows.

    Example:
        >>> layer = FusedEmbedding([CategoricalField(name="item_id", size=5)], [], embedding_dim=3)
        >>> linear_B, vectors_BFD = layer(torch.tensor([[1], [0]]))
        >>> tuple(linear_B.shape), tuple(vectors_BFD.shape)
        ((2,), (2, 1, 3))
    """

    offsets: Tensor
    multi_offsets: Tensor

    def __init__(
        self,
        fields: Sequence[CategoricalField],
        multi_fields: Sequence[MultiField],
        embedding_dim: int,
    ) -> None:
        super().__init__()
        sizes = [field.size for field in (*fields, *multi_fields)]
        starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
        self.register_buffer("offsets", starts[: len(fields)], persistent=False)
        self.register_buffer("multi_offsets", starts[len(fields) :], persistent=False)
        self.widths = [field.width for field in multi_fields]
        self.num_fields = len(sizes)
        self.table = nn.Parameter(torch.empty(sum(sizes), embedding_dim + 1))
        nn.init.normal_(self.table, std=0.01)
        self.pull: Callable[[Tensor], Tensor] | None = None

    def forward(self, fields_BF: Tensor, multi_BM: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Look the fields up.

        Args:
            fields_BF: int64 vocabulary indices.
            multi_BM: int64 padded indices of all multi-valued fields, side by side.

        Returns:
            First-order sum, shape (B,), and one vector per field, shape (B, F, D), multi-valued fields last.
        """
        blocks = [] if multi_BM is None else list(torch.split(multi_BM, self.widths, dim=1))
        shifted = [fields_BF + self.offsets, *(block + self.multi_offsets[n] for n, block in enumerate(blocks))]
        found, *of_blocks = self._rows(shifted)
        if blocks:
            found = torch.cat([found, *map(self._mean, blocks, of_blocks)], dim=1)
        return split_first(found) if self.training else (found[..., 0].sum(1), found[..., 1:])

    def ids(self, index_B: Tensor) -> Tensor:
        """Return the vectors of the first field, (B, D), without their first-order weights."""
        if self.training and self.pull is not None:
            return self.pull(index_B)[:, 1:]
        return nn.functional.embedding(index_B, self.table)[:, 1:]

    def _rows(self, places: list[Tensor]) -> list[Tensor]:
        """Return rows of the table by their positions in it, (B, columns, 1 + D) for each (B, columns)."""
        if self.training and self.pull is not None:  # asked for at once, so that no row is brought in twice
            return list(torch.split(self.pull(torch.cat(places, dim=1)), [place.shape[1] for place in places], dim=1))
        find = lookup if self.training else nn.functional.embedding
        return [find(place, self.table) for place in places]

    def _mean(self, block_BM: Tensor, found_BMW: Tensor) -> Tensor:
        """Average the vectors of one multi-valued field; padding does not count, an empty cell gives zeros."""
        present_BM1 = (block_BM > 0).unsqueeze(-1).to(self.table.dtype)
        total_B1W = (found_BMW * present_BM1).sum(1, keepdim=True)
        mean_B1W: Tensor = total_B1W / present_BM1.sum(1, keepdim=True).clamp(min=1)
        return mean_B1W


class IdDropout(nn.Module):
    """Replace a share of ids by the unseen index 0 in training, so that index 0 learns to stand for any new id.

    Args:
        share: Share of the ids, the first field of a side.

    Source: DropoutNet (Volkovs et al., NIPS 2017), there for the whole latent vector.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, fields_BF: Tensor) -> Tensor:
        """Return the fields (B, F) with some ids set to 0; as they are outside of training."""
        if not self.training or not self.share:
            return fields_BF
        num_rows, own = whole_batch(len(fields_BF))
        keep_B = torch.rand(num_rows, device=fields_BF.device)[own] >= self.share
        return torch.cat([fields_BF[:, :1] * keep_B[:, None], fields_BF[:, 1:]], dim=1)


class NumericScaler(nn.Module):
    """Standardise numeric features with constants fitted on train rows, kept in the model and its ONNX graph.

    Args:
        num_features: P.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    @torch.no_grad()
    def fit(self, values_BP: Tensor, times_B: Tensor | None = None) -> None:
        """Take mean and standard deviation from train rows; a constant column keeps a deviation of 1.

        Args:
            values_BP: The rows, or the rows of a table that train rows point to.
            times_B: How many train rows point to each; None: one. So no table has to be repeated for its rows.
        """
        if times_B is None:
            mean_P, std_P = values_BP.mean(0), values_BP.std(0, correction=0)
        else:
            share_B = times_B.double() / times_B.sum()
            mean_P = share_B @ values_BP.double()
            std_P = (share_B @ (values_BP.double() - mean_P).square()).sqrt()
        self.mean.copy_(mean_P)
        self.std.copy_(torch.where(std_P > 1e-6, std_P, torch.ones_like(std_P)))

    def fit_present(self, vectors_NE: Tensor, times_N: Tensor, dim: int) -> None:
        """Fit on the leading dimensions of a table's vectors; a row of zeros is an item without one.

        Args:
            vectors_NE: The table.
            times_N: Train rows of each item.
            dim: Leading dimensions.
        """
        counted_N = has_vector(vectors_NE) & (times_N > 0)
        if counted_N.any():
            self.fit(vectors_NE[counted_N, :dim], times_N[counted_N])

    def forward(self, values_BP: Tensor) -> Tensor:
        """Return (values − mean) / std, cut at ±`MAX_SIGMAS`, shape (B, P)."""
        scaled_BP: Tensor = ((values_BP - self.mean) / self.std).clamp(-MAX_SIGMAS, MAX_SIGMAS)
        return scaled_BP

    def scaled_lines(self, values_BPN: Tensor) -> Tensor:
        """Return the same where each feature is a line of N values; onnxruntime takes a sixth of the time for these."""
        mean_P1, std_P1 = self.mean.unsqueeze(1), self.std.unsqueeze(1)
        scaled_BPN: Tensor = ((values_BPN - mean_P1) / std_P1).clamp(-MAX_SIGMAS, MAX_SIGMAS)
        return scaled_BPN


class ReluDropout(nn.Module):
    """ReLU, and dropout after it in training.

    Args:
        share: Share that is dropped; see `kernels.relu_dropout`.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        """Return max(values, 0), in training a share of it set to 0 and the rest scaled up."""
        return relu_dropout(values, self.share) if self.training and self.share else torch.relu(values)


def mlp(width_in: int, hidden_dims: Sequence[int], dropout: float) -> nn.Sequential:
    """Return linear layers with ReLU and dropout after each; the output is as wide as the last of `hidden_dims`."""
    layers: list[nn.Module] = []
    for width_from, width_to in itertools.pairwise((width_in, *hidden_dims)):
        layers += [Dense(width_from, width_to), ReluDropout(dropout)]
    return nn.Sequential(*layers)


def unit_length(vectors_BE: Tensor) -> Tensor:
    """Scale rows to length 1; a row of zeros (an item without text, say) stays zeros."""
    unit_BE: Tensor = vectors_BE / vectors_BE.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return unit_BE


def has_vector(vectors_BE: Tensor) -> Tensor:
    """Return which rows are not all zeros, bool (B,); no copy of the table is made for it."""
    return (vectors_BE.amax(1) > 0) | (vectors_BE.amin(1) < 0)


def weighted_sum(values_BX: Tensor, weight_X: Tensor) -> Tensor:
    """Return ``values @ weight``, (B,).

    As a matrix of one column: onnxruntime multiplies with a plain vector row by row, which for 500 rows of four numbers
    takes ten times as long.
    """
    return (values_BX @ weight_X.unsqueeze(1)).squeeze(1)
