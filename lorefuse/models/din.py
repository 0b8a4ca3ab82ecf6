"""DIN: the candidate asks the user's history which past items matter for it.

Suffixes: ``B`` rows, ``L`` history length, ``W`` width of an item vector.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from lorefuse.contract import Split
from lorefuse.errors import UsageError
from lorefuse.features.spec import FeatureSpec
from lorefuse.features.training_set import TrainingSet
from lorefuse.models.catalogue import Catalogue
from lorefuse.models.field_ranker import FieldRanker, Front
from lorefuse.models.history_match import NUM_MATCHES, match_scalars
from lorefuse.models.layers import NumericScaler, mlp, unit_length
from lorefuse.models.ranker import Side, as_inputs
from lorefuse.products import Dense, linear

_NUM_FITTED = 50_000
"""Train rows that the scaling of the match scalars is fitted on."""
_MATCHES = "matches"


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
        self.first, self.last = Dense(4 * width, hidden_dim), nn.Linear(hidden_dim, 1)

    def forward(self, past_BLW: Tensor, candidate_BW: Tensor, present_BL: Tensor) -> Tensor:
        """Return the weighted sum, (B, W); padding has no weight."""
        # The first layer is linear, so its four blocks are applied apart: what depends on the candidate alone is
        # computed once a row rather than once a past item, and the four-fold input is never written down.
        of_past, of_asked, of_difference, of_product = torch.split(self.first.weight, self.width, dim=1)
        hidden_BLH = linear(past_BLW, of_past + of_difference)
        hidden_BLH = hidden_BLH + linear(past_BLW * candidate_BW.unsqueeze(1), of_product)
        asked_BH = linear(candidate_BW, of_asked - of_difference, self.first.bias)
        weight_BL = self.last(torch.sigmoid(hidden_BLH + asked_BH.unsqueeze(1))).squeeze(2) * present_BL
        summed_BW: Tensor = (weight_BL.unsqueeze(2) * past_BLW).sum(1)
        return summed_BW


class DIN(FieldRanker):
    """An MLP on field vectors, numbers and the history as the candidate sees it.

    A past item is its fused id and knowledge, the same vector as a candidate's, so that text carries interest from
    liked items to candidates that nobody has seen. How near the candidate is to them in the frozen space of that
    knowledge, `history_match.match_scalars`, enters the MLP as numbers.

    Args:
        spec: Names and widths of the inputs; `history_length` above 0.
        hidden_dims: Widths of the MLP.
        dropout: Dropout after each hidden layer.
        attention_dim: Width of the attention's hidden layer.
        match: Whether the match scalars take part.
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
        match: bool = False,
        **front: Unpack[Front],
    ) -> None:
        super().__init__(spec, **front)
        if not spec.history_length:
            raise UsageError("DIN reads the user's history.", expected="a history_length above 0", got="0")
        item_width = self.num_fused * self.embedding_dim
        width = (self.num_user_fields + self.num_item_fields) * self.embedding_dim + self.num_dense
        self.catalogue = Catalogue(self.fused_names, self.fused_widths)
        self.attention = TargetAttention(item_width, attention_dim)
        self.matched = self.fused_names if match else ()
        num_matches = NUM_MATCHES * len(self.matched)
        self.match_scaler = NumericScaler(num_matches) if num_matches else None
        self.deep = mlp(width + item_width + num_matches, hidden_dims, dropout)
        self.out = nn.Linear(hidden_dims[-1], 1)

    def prepare(self, training_set: TrainingSet) -> None:
        """Fit all constants on train rows and keep the item tables."""
        super().prepare(training_set)
        self.catalogue.fill(training_set)
        if self.match_scaler is not None:
            rows = training_set.rows_of(Split.TRAIN)
            inputs = as_inputs(training_set.inputs(rows[:: max(1, len(rows) // _NUM_FITTED)]))
            user = self._past_knowledge(inputs["user_history"])
            item = {name: unit_length(inputs[name]) for name in self.matched}
            self.match_scaler.fit(self._matches(user, item))

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
            catalogue, place_BL = self._asked_for(user_history)
            vectors_NW = self.item_vectors(catalogue.fields, catalogue.knowledge).flatten(1)
            side["past"] = nn.functional.embedding(place_BL, vectors_NW)
            side |= self._past_knowledge(user_history)
        return side

    def cross_all(self, user: Side, item: Side) -> Tensor:
        """Score every pair, as rows: logits (B, N); past knowledge is compared, not repeated, for each item."""
        if self.match_scaler is None:
            return super().cross_all(user, item)
        num_items = item["linear"].shape[0]
        past = {_past(name) for name in self.matched}
        matches_BNV = self._matches_all(user, item)
        rows = {k: v for k, v in user.items() if k not in past}
        users = {k: v.unsqueeze(1).expand(-1, num_items, *v.shape[1:]).flatten(0, 1) for k, v in rows.items()}
        items = {k: v.unsqueeze(0).expand(user["linear"].shape[0], *v.shape).flatten(0, 1) for k, v in item.items()}
        return self.cross(users | {_MATCHES: matches_BNV.flatten(0, 1)}, items).view(-1, num_items)

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: Side, item: Side) -> Tensor:
        """Return the MLP's logit, (B,)."""
        candidate_BW = item["fields"][:, : self.num_fused].flatten(1)
        interest_BW = self.attention(user["past"], candidate_BW, user["present"])
        parts = [fields_BFD.flatten(1), interest_BW, dense_BX]
        if self.match_scaler is not None:
            matches_BV = user[_MATCHES] if _MATCHES in user else self._matches(user, item)
            parts.append(self.match_scaler(matches_BV))
        deep_B: Tensor = self.out(self.deep(torch.cat(parts, dim=1))).squeeze(1)
        return deep_B

    def _asked_for(self, user_history: Tensor) -> tuple[Catalogue, Tensor]:
        """Return what of the catalogue is computed for a batch, and where the past items are in it, (B, L).

        All of it; in training by rows of a table the past items alone, so that a step costs what its batch does.
        """
        if not self.training or self.item_embedding.pull is None:
            return self.catalogue, user_history
        rows_n, place_BL = torch.unique(user_history, return_inverse=True)
        return self.catalogue.part(rows_n), place_BL

    def _past_knowledge(self, user_history: Tensor) -> Side:
        """Return which past items are there, (B, L), and their unit knowledge vectors, (B, L, E) each."""
        side = {"present": (user_history > 0).to(torch.float32)}
        catalogue, place_BL = self._asked_for(user_history)
        for name in self.matched:
            side[_past(name)] = nn.functional.embedding(place_BL, unit_length(getattr(catalogue, name)))
        return side

    def _matches(self, user: Side, item: Side) -> Tensor:
        """Return the match scalars of pairs row by row, (B, V)."""
        blocks = []
        for name in self.matched:
            similarity_BL = torch.bmm(user[_past(name)], item[name].unsqueeze(2)).squeeze(2)
            blocks.append(match_scalars(similarity_BL, user["present"]))
        return torch.cat(blocks, dim=1)

    def _matches_all(self, user: Side, item: Side) -> Tensor:
        """Return the match scalars of every pair, (B, N, V)."""
        blocks = []
        for name in self.matched:
            similarity_BNL = (user[_past(name)] @ item[name].T).transpose(1, 2)
            blocks.append(match_scalars(similarity_BNL, user["present"].unsqueeze(1).expand_as(similarity_BNL)))
        return torch.cat(blocks, dim=2)


def _past(name: str) -> str:
    return f"past_{name}"
