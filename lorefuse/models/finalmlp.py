"""FinalMLP: two gated MLP streams that meet in a bilinear product.

Suffixes: ``B`` rows, ``W`` width of all fields and numbers, ``H`` heads, ``A`` width of a head.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from lorefuse.models.field_ranker import FieldRanker, Front
from lorefuse.models.layers import mlp
from lorefuse.models.ranker import SideTensors
from lorefuse.training_set.spec import FeatureSpec


class FeatureGate(nn.Module):
    """``x ⊙ 2σ(MLP(condition))``: lets a stream choose its features by one side of the pair.

    Source: FinalMLP, arXiv:2304.00902, eqs. 5-6.
    """

    def __init__(self, condition_width: int, width: int, hidden_dim: int = 64) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(condition_width, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, width))

    def forward(self, features_BW: Tensor, condition_BC: Tensor) -> Tensor:
        """Return the gated features, (B, W)."""
        gated_BW: Tensor = features_BW * 2 * torch.sigmoid(self.gate(condition_BC))
        return gated_BW


class BilinearHeads(nn.Module):
    """``bias + w₁·o₁ + w₂·o₂ + Σ_heads o₁ᵀ W o₂``, each stream's output cut into heads.

    Args:
        first_dim: Width of o₁.
        second_dim: Width of o₂.
        num_heads: Divides both widths.

    Source: FinalMLP, arXiv:2304.00902, eqs. 8-10.
    """

    def __init__(self, first_dim: int, second_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.first, self.second = nn.Linear(first_dim, 1), nn.Linear(second_dim, 1, bias=False)
        self.weight = nn.Parameter(torch.empty(num_heads, first_dim // num_heads, second_dim // num_heads))
        nn.init.xavier_normal_(self.weight)

    def forward(self, first_BA: Tensor, second_BA: Tensor) -> Tensor:
        """Return the logit, (B,)."""
        left_BHA = first_BA.view(first_BA.shape[0], self.num_heads, -1)
        right_BHA = second_BA.view(second_BA.shape[0], self.num_heads, -1)
        product_B = (torch.einsum("bha,hac->bhc", left_BHA, self.weight) * right_BHA).flatten(1).sum(1)
        logit_B: Tensor = (self.first(first_BA) + self.second(second_BA)).squeeze(1) + product_B
        return logit_B


class FinalMLP(FieldRanker):
    """Two MLPs, one gated by the user's fields and one by the item's, fused by a multi-head bilinear product.

    Args:
        spec: Names and widths of the inputs.
        hidden_dims: Widths of both MLPs; the last one must be divisible by `num_heads`.
        num_heads: Heads of the bilinear product.
        dropout: Dropout after each hidden layer.
        front: As for `FieldRanker`.

    Source: FinalMLP, arXiv:2304.00902. We keep the linear part of ids, as DeepFM does.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        hidden_dims: tuple[int, ...] = (128, 64),
        num_heads: int = 4,
        dropout: float = 0.2,
        **front: Unpack[Front],
    ) -> None:
        super().__init__(spec, **front)
        user_width, item_width = self.num_user_fields * self.embedding_dim, self.num_item_fields * self.embedding_dim
        width = user_width + item_width + self.num_dense
        self.user_gate, self.item_gate = FeatureGate(user_width, width), FeatureGate(item_width, width)
        self.first, self.second = mlp(width, hidden_dims, dropout), mlp(width, hidden_dims, dropout)
        self.heads = BilinearHeads(hidden_dims[-1], hidden_dims[-1], num_heads)

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return the logit of both streams, (B,)."""
        user_BC = fields_BFD[:, : self.num_user_fields].flatten(1)
        item_BC = fields_BFD[:, self.num_user_fields :].flatten(1)
        all_BW = torch.cat([user_BC, item_BC, dense_BX], dim=1)
        first_BA = self.first(self.user_gate(all_BW, user_BC))
        logit_B: Tensor = self.heads(first_BA, self.second(self.item_gate(all_BW, item_BC)))
        return logit_B
