"""DIN: the candidate asks the user's history which past items matter for it.

Suffixes: ``B`` rows, ``L`` history length, ``W`` width of an item vector.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from lorefuse.errors import UsageError
from lorefuse.features.spec import FeatureSpec
from lorefuse.features.training_set import TrainingSet
from lorefuse.models.catalogue import Catalogue
from lorefuse.models.field_ranker import FieldRanker, Front
from lorefuse.models.layers import mlp
from lorefuse.models.ranker import Side


class TargetAttention(nn.Module):
    """Weigh past items by an MLP over ``[past, candidate, past − candidate, past ⊙ candidate]`` and sum them.

    Weights are not normalised, so that their sum tells how strong the interest is.

    Args:
        width: W.
        hidden_dim: Width of the MLP's hidden layer.

    Source: DIN, arXiv:1706.06978, eq. 3 and section 4.3. We use a sigmoid in the activation unit, not Dice.
    """

    def __init__(self, width: int, hidden_dim: int = 36) -> None:
        super().__init__()
        self.width = width
        self.first, self.last = nn.Linear(4 * width, hidden_dim), nn.Linear(hidden_dim, 1)

    def forward(self, past_BLW: Tensor, candidate_BW: Tensor, present_BL: Tensor) -> Tensor:
        """Return the weighted sum, (B, W); padding has no weight."""
        # The first layer is linear, so its four blocks are applied apart: what depends on the candidate alone is
        # computed once a row rather than once a past item, and the four-fold input is never written down.
        of_past, of_asked, of_difference, of_product = torch.split(self.first.weight, self.width, dim=1)
        hidden_BLH = nn.functional.linear(past_BLW, of_past + of_difference)
        hidden_BLH = hidden_BLH + nn.functional.linear(past_BLW * candidate_BW.unsqueeze(1), of_product)
        asked_BH = nn.functional.linear(candidate_BW, of_asked - of_difference, self.first.bias)
        weight_BL = self.last(torch.sigmoid(hidden_BLH + asked_BH.unsqueeze(1))).squeeze(2) * present_BL
        summed_BW: Tensor = (weight_BL.unsqueeze(2) * past_BLW).sum(1)
        return summed_BW


class DIN(FieldRanker):
    """An MLP on field vectors, numbers and the history as the candidate sees it.

    A past item is its fused id and knowledge, the same vector as a candidate's, so that text carries interest from
    liked items to candidates that nobody has seen.

    Args:
        spec: Names and widths of the inputs; `history_length` above 0.
        hidden_dims: Widths of the MLP.
        dropout: Dropout after each hidden layer.
        attention_dim: Width of the attention's hidden layer.
        front: As for `FieldRanker`.

    Source: DIN, arXiv:1706.06978, figure 2.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        hidden_dims: tuple[int, ...] = (128, 64),
        dropout: float = 0.2,
        attention_dim: int = 36,
        **front: Unpack[Front],
    ) -> None:
        super().__init__(spec, **front)
        if not spec.history_length:
            raise UsageError("DIN reads the user's history.", expected="a history_length above 0", got="0")
        item_width = self.num_fused * self.embedding_dim
        width = (self.num_user_fields + self.num_item_fields) * self.embedding_dim + self.num_dense
        self.catalogue = Catalogue(self.fused_names, self.fused_widths)
        self.attention = TargetAttention(item_width, attention_dim)
        self.deep = mlp(width + item_width, hidden_dims, dropout)
        self.out = nn.Linear(hidden_dims[-1], 1)

    def prepare(self, training_set: TrainingSet) -> None:
        """Fit all constants on train rows and keep the item tables."""
        super().prepare(training_set)
        self.catalogue.fill(training_set)

    def encode_user(
        self,
        user_fields: Tensor,
        user_numeric: Tensor | None = None,
        user_interest: Tensor | None = None,
        user_history: Tensor | None = None,
    ) -> Side:
        """Return the user's half with the vectors of past items, (B, L, W), and which of them are there, (B, L)."""
        side = super().encode_user(user_fields, user_numeric, user_interest)
        if user_history is not None:
            vectors_NW = self.item_vectors(self.catalogue.fields, self.catalogue.knowledge).flatten(1)
            side["past"] = nn.functional.embedding(user_history, vectors_NW)
            side["present"] = (user_history > 0).to(vectors_NW.dtype)
        return side

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: Side, item: Side) -> Tensor:
        """Return the MLP's logit, (B,)."""
        candidate_BW = item["fields"][:, : self.num_fused].flatten(1)
        interest_BW = self.attention(user["past"], candidate_BW, user["present"])
        deep_B: Tensor = self.out(self.deep(torch.cat([fields_BFD.flatten(1), interest_BW, dense_BX], dim=1))).squeeze(
            1
        )
        return deep_B
