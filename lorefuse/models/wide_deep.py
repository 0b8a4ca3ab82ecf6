"""Wide & Deep: a linear model that memorises beside an MLP that generalises."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from lorefuse.models.field_ranker import FieldRanker, Front
from lorefuse.models.layers import mlp
from lorefuse.models.ranker import SideTensors
from lorefuse.training_set.spec import FeatureSpec


class WideDeep(FieldRanker):
    """The linear part, and an MLP on all field vectors and numbers.

    Args:
        spec: Names and widths of the inputs.
        hidden_dims: Widths of the MLP.
        dropout: Dropout after each hidden layer.
        front: As for `FieldRanker`.

    Source: Wide & Deep, arXiv:1606.07792, eqs. 1-3. The wide part has single features and numbers, not the hand-made
    crosses of the paper, and both parts share one optimiser.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        hidden_dims: tuple[int, ...] = (128, 64),
        dropout: float = 0.2,
        **front: Unpack[Front],
    ) -> None:
        super().__init__(spec, **front)
        width = (self.num_user_fields + self.num_item_fields) * self.embedding_dim + self.num_dense
        self.deep = mlp(width, hidden_dims, dropout)
        self.out = nn.Linear(hidden_dims[-1], 1)

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return the MLP's logit, (B,)."""
        deep_B: Tensor = self.out(self.deep(torch.cat([fields_BFD.flatten(1), dense_BX], dim=1))).squeeze(1)
        return deep_B
