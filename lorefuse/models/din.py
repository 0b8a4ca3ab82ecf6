"""DIN: the candidate asks the user's history which past items matter for it.

Suffixes: ``B`` rows, ``L`` history length, ``W`` width of an item vector.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lorefuse.core.errors import UsageError
from lorefuse.core.schema import Split
from lorefuse.cpu.matmul import Dense, linear
from lorefuse.models.catalogue import Catalogue
from lorefuse.models.field_ranker import FieldRanker, Front
from lorefuse.models.history_match import NUM_MATCHES, match_scalars
from lorefuse.models.layers import NumericScaler, mlp, unit_length
from lorefuse.models.pairs import history_matches
from lorefuse.models.ranker import PAIR, SideTensors
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec

_NUM_FITTED = 50_000
"""Train rows that the scaling of the match scalars is fitted on."""
_HISTORY, _PAST, _PRESENT = "history", "past", "present"
_ATTENDED = "attended"
"""What a block of pairs has in place of the past: its weighted sum."""


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

    def of_all(self, past_BLW: Tensor, candidate_NW: Tensor, present_BL: Tensor) -> Tensor:
        """Return the same for every pair, (B, N, W); no past is repeated for each candidate.

        What depends on both, ``(past ⊙ candidate) · W``, is one product of the candidates with ``diag(past) · W``.
        """
        of_past, of_asked, of_difference, of_product = torch.split(self.first.weight, self.width, dim=1)
        past_BLH = linear(past_BLW, of_past + of_difference)
        asked_NH = linear(candidate_NW, of_asked - of_difference, self.first.bias)
        both_BLWH = past_BLW.unsqueeze(3) * of_product.T
        hidden_BLNH = torch.sigmoid(candidate_NW @ both_BLWH + past_BLH.unsqueeze(2) + asked_NH)
        weight_BLN = self.last(hidden_BLNH).squeeze(3) * present_BL.unsqueeze(2)
        return torch.bmm(weight_BLN.transpose(1, 2), past_BLW)


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
            rows = rows[:: max(1, len(rows) // _NUM_FITTED)]
            self.match_scaler.fit(history_matches(training_set, self.matched, rows))

    def pair_numbers(self, training_set: TrainingSet, rows: NDArray[np.int64]) -> Tensor | None:
        """Return the interest scalars and the match scalars of rows, (B, V + 5 · spaces), not yet standardised."""
        interest_BV = super().pair_numbers(training_set, rows)
        if self.match_scaler is None:
            return interest_BV
        matches_BM = history_matches(training_set, self.matched, rows)
        return matches_BM if interest_BV is None else torch.cat([interest_BV, matches_BM], dim=1)

    def encode_user(
        self,
        user_fields: Tensor,
        user_numeric: Tensor | None = None,
        user_interest: Tensor | None = None,
        user_history: Tensor | None = None,
    ) -> SideTensors:
        """Return the user's half with past items: rows and which are there, (B, L), and their vectors, (B, L, W)."""
        side = super().encode_user(user_fields, user_numeric, user_interest)
        if user_history is not None:
            catalogue, place_BL = self._asked_for(user_history)
            vectors_NW = self.item_vectors(catalogue.fields, catalogue.knowledge).flatten(1)
            side[_PAST] = nn.functional.embedding(place_BL, vectors_NW)
            side |= {_PRESENT: (user_history > 0).to(torch.float32), _HISTORY: user_history}
        return side

    def cross_all(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Score every pair: logits (B, N); see `FieldRanker.cross_all`."""
        return super().cross_all(user | self._past_knowledge(user), item)

    def cross_lists(self, user: SideTensors, item: SideTensors, length: int) -> Tensor:
        """Score each user with a list of items of their own, (B, C); no past knowledge is repeated for each item."""
        if self.match_scaler is None:
            return super().cross_lists(user, item, length)
        past = self._past_knowledge(user)
        of_lists = {name: item[name].view(-1, length, item[name].shape[1]) for name in self.matched}
        found = [torch.bmm(of_lists[name], past[_past(name)].transpose(1, 2)) for name in self.matched]
        matches_BCM = self._matches(found, user[_PRESENT].unsqueeze(1))
        lists = {PAIR: torch.cat([self._interest_rows(user, item, length), matches_BCM.flatten(0, 1)], dim=1)}
        rows = {k: v.repeat_interleave(length, dim=0) for k, v in user.items() if k not in ("interest", _HISTORY)}
        return self.cross(rows | lists, item).view(-1, length)

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return the MLP's logit, (B,)."""
        if _ATTENDED in user:
            interest_BW = user[_ATTENDED]
        else:
            candidate_BW = item["fields"][:, : self.num_fused].flatten(1)
            interest_BW = self.attention(user[_PAST], candidate_BW, user[_PRESENT])
        parts = [fields_BFD.flatten(1), interest_BW, dense_BX]
        if self.match_scaler is not None:
            parts.append(self.match_scaler(self._match_rows(user, item)))
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

    def paired(self, user: SideTensors, item: SideTensors) -> SideTensors:
        """Return what every pair has, as rows: interest and match scalars, and the past as the candidate sees it."""
        candidate_NW = item["fields"][:, : self.num_fused].flatten(1)
        attended_BNW = self.attention.of_all(user[_PAST], candidate_NW, user[_PRESENT])
        found = super().paired(user, item) | {_ATTENDED: attended_BNW.flatten(0, 1)}
        if self.match_scaler is not None:
            similar = [(user[_past(name)] @ item[name].T).transpose(1, 2) for name in self.matched]
            matches_RM = self._matches(similar, user[_PRESENT].unsqueeze(1)).flatten(0, 1)
            found[PAIR] = torch.cat([found[PAIR], matches_RM], dim=1) if PAIR in found else matches_RM
        return found

    @property
    def never_repeated(self) -> tuple[str, ...]:
        """The past, of which a pair has what `paired` makes of it."""
        past = (_HISTORY, _PAST, _PRESENT, *map(_past, self.matched))
        return (*super().never_repeated, *past)

    def _past_knowledge(self, user: SideTensors) -> SideTensors:
        """Return the unit knowledge vectors of past items, (B, L, E) each."""
        if self.match_scaler is None:
            return {}
        found = {name: nn.functional.embedding(user[_HISTORY], getattr(self.catalogue, name)) for name in self.matched}
        return {_past(name): unit_length(vectors_BLE) for name, vectors_BLE in found.items()}

    def _match_rows(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Return the match scalars of pairs row by row, (B, M)."""
        if PAIR in user:
            return user[PAIR][:, self.num_facets :]
        past = self._past_knowledge(user)
        similar = [torch.bmm(past[_past(name)], item[name].unsqueeze(2)).squeeze(2) for name in self.matched]
        return self._matches(similar, user[_PRESENT])

    def _matches(self, similar: list[Tensor], present: Tensor) -> Tensor:
        """Return the match scalars of cosines with the past, (..., L) each; padding broadcasts: (..., M)."""
        return torch.cat([match_scalars(cosines, present.expand_as(cosines)) for cosines in similar], dim=-1)


def _past(name: str) -> str:
    return f"past_{name}"
