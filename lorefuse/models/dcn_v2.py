"""DCN-V2: explicit feature crosses of growing degree beside an MLP."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from lorefuse.cpu.kernels import crosses
from lorefuse.cpu.matmul import Dense
from lorefuse.models.field_ranker import FieldRanker, Front
from lorefuse.models.layers import mlp
from lorefuse.models.ranker import SideTensors
from lorefuse.training_set.spec import FeatureSpec


class CrossLayer(nn.Module):
    """``x_{l+1} = x_0 ⊙ (W x_l + b) + x_l``, with W full or of low rank U·V.

    Args:
        width: Width of x.
        rank: Rank of W; 0 means a full matrix.

    Source: DCN-V2, arXiv:2008.13535, eqs. 1 and 2.

    Example:
        >>> layer = CrossLayer(2)
        >>> with torch.no_grad():
        ...     _ = layer.weight.weight.copy_(torch.eye(2)), layer.weight.bias.zero_()
        >>> layer(torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, 1.0]])).tolist()
        [[3.0, 4.0]]
    """

    def __init__(self, width: int, rank: int = 0) -> None:
        super().__init__()
        self.weight: nn.Module = Dense(width, width)
        if rank:
            self.weight = nn.Sequential(Dense(width, rank, bias=False), Dense(rank, width))

    def forward(self, first_BW: Tensor, last_BW: Tensor) -> Tensor:
        """Cross the first input with the last layer's output, both (B, W)."""
        crossed_BW: Tensor = first_BW * self.weight(last_BW) + last_BW
        return crossed_BW


class DCNV2(FieldRanker):
    """A cross network and an MLP in parallel on all field vectors and numbers.

    Args:
        spec: Names and widths of the inputs.
        num_cross_layers: Degree of the crosses, less one.
        cross_rank: Rank of the cross matrices; 0 means full.
        hidden_dims: Widths of the MLP.
        dropout: Dropout after each hidden layer.
        front: As for `FieldRanker`.

    Source: DCN-V2, arXiv:2008.13535, the parallel form of figure 1. We keep the linear part of ids, as DeepFM does.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        num_cross_layers: int = 2,
        cross_rank: int = 0,
        hidden_dims: tuple[int, ...] = (128, 64),
        dropout: float = 0.2,
        **front: Unpack[Front],
    ) -> None:
        super().__init__(spec, **front)
        width = (self.num_user_fields + self.num_item_fields) * self.embedding_dim + self.num_dense
        self.cross_rank = cross_rank
        self.crosses = nn.ModuleList(CrossLayer(width, cross_rank) for _ in range(num_cross_layers))
        self.deep = mlp(width, hidden_dims, dropout)
        self.out = nn.Linear(width + hidden_dims[-1], 1)

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return the logit of both networks, (B,)."""
        first_BW = fields_BFD.flatten(1)
        if self.num_dense:
            first_BW = torch.cat([first_BW, dense_BX], dim=1)
        last_BW, deep_BH = self._crossed(first_BW), self.deep(first_BW)
        if self.training:  # nothing is copied side by side; a graph has products of matrices, which are faster there
            cross_W, deep_H = torch.split(self.out.weight[0], [last_BW.shape[1], deep_BH.shape[1]])
            sum_B: Tensor = last_BW @ cross_W + deep_BH @ deep_H + self.out.bias
            return sum_B
        both_B: Tensor = self.out(torch.cat([last_BW, deep_BH], dim=1)).squeeze(1)
        return both_B

    def _crossed(self, first_BW: Tensor) -> Tensor:
        plain = torch.compiler.is_compiling() or torch.is_autocast_enabled(first_BW.device.type)
        if self.training and not plain and not self.cross_rank and len(self.crosses):
            return crosses(first_BW, self.crosses)
        last_BW = first_BW
        for layer in self.crosses:
            last_BW = layer(first_BW, last_BW)
        return last_BW
