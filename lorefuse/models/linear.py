"""The two shallow families: logistic regression and the factorisation machine.

Suffixes: ``B`` rows, ``F`` fields, ``D`` id dim, ``E`` knowledge dim, ``X`` numbers.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from lorefuse.models.field_ranker import FieldRanker, Front, knowledge_tables
from lorefuse.models.layers import NumericScaler, weighted_sum
from lorefuse.models.ranker import SideTensors
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec


class LogisticRegression(FieldRanker):
    """One weight per category, number, interest scalar and knowledge dimension; linear regression for values.

    The floor of every comparison: what it reaches needs no model. Knowledge enters as its own standardised
    dimensions.

    Args:
        spec: Names and widths of the inputs.
        id_dropout: As for `FieldRanker`.
    """

    def __init__(self, spec: FeatureSpec, *, id_dropout: float = 0.1) -> None:
        super().__init__(spec, embedding_dim=0, id_dropout=id_dropout, fusion="none")
        width = sum(block.dim for block in spec.knowledge)
        self.knowledge_scaler = NumericScaler(width)
        self.knowledge_weight = nn.Parameter(torch.zeros(width))

    def prepare(self, training_set: TrainingSet) -> None:
        """Fit all scalers on train rows."""
        super().prepare(training_set)
        tables, times_N = knowledge_tables(training_set, self.spec.knowledge_tensors)
        counted_N = times_N > 0
        if tables:
            self.knowledge_scaler.fit(torch.cat(tables, dim=1)[counted_N], times_N[counted_N])

    def encode_item(
        self,
        item_fields: Tensor,
        item_multi: Tensor | None = None,
        item_numeric: Tensor | None = None,
        **knowledge: Tensor,
    ) -> SideTensors:
        """Return the item's half, its knowledge already in the linear part."""
        side = super().encode_item(item_fields, item_multi, item_numeric, **knowledge)
        if knowledge:
            knowledge_BE = torch.cat([knowledge[name] for name in self.spec.knowledge_tensors], dim=1)
            own_B = weighted_sum(self.knowledge_scaler(knowledge_BE), self.knowledge_weight)
            side["linear"] = side["linear"] + own_B
        return side

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return zeros: nothing interacts."""
        return torch.zeros_like(user["linear"])


class FactorizationMachine(FieldRanker):
    """The linear part and all pairwise products of fields, ``½ (|Σv|² − Σ|v|²)``.

    Source: Rendle, ICDM 2010, eqs. 1 and 5; knowledge enters through the item's fused fields.
    """

    def __init__(self, spec: FeatureSpec, **front: Unpack[Front]) -> None:
        super().__init__(spec, **front)

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return the pairwise term, (B,)."""
        return pairwise(fields_BFD)


def pairwise(fields_BFD: Tensor) -> Tensor:
    """Return the sum of dot products over all pairs of fields, (B,).

    Example:
        >>> pairwise(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]]))
        tensor([17.])
    """
    sum_BD = fields_BFD.sum(1)
    pairs_B: Tensor = 0.5 * (sum_BD.square() - fields_BFD.square().sum(1)).sum(1)
    return pairs_B
