"""DeepFM, written in halves so that a whole catalogue is scored against a user in one product.

Suffixes: ``B`` rows, ``N`` catalogue, ``R`` pairs of both, ``F`` fields, ``D`` id dim, ``H`` first hidden width,
``V`` interest facets.
"""

from __future__ import annotations

import itertools
from typing import Unpack

import torch
from torch import Tensor, nn

from lorefuse.cpu.kernels import plain_sum_and_pairs, sum_and_pairs
from lorefuse.cpu.matmul import Dense
from lorefuse.models.field_ranker import FieldRanker, Front, Parts, unit_knowledge
from lorefuse.models.layers import ReluDropout, weighted_sum
from lorefuse.models.ranker import PAIR, SideTensors
from lorefuse.training_set.spec import FeatureSpec


class DeepFM(FieldRanker):
    """Sum of a linear part, a factorisation machine over field embeddings, and an MLP on all of them.

    The user's and the item's halves meet in three places only, each of which splits exactly:

    * the FM term, ``½(|u+i|² − Σ|v|²) = self(u) + self(i) + u·i`` with u, i the sums of each side's field vectors;
    * the first layer of the MLP, which is linear, so its rows for user and item inputs are applied apart and added;
    * the interest scalars, dot products of the user's liked-mean vectors with the item's unit knowledge vectors.

    Args:
        spec: Names and widths of the inputs.
        hidden_dims: Widths of the MLP.
        dropout: Dropout after each hidden layer.
        front: As for `FieldRanker`.

    Source: DeepFM, arXiv:1703.04247, eqs. 1-4. We add the knowledge and the interest scalars, and feed numeric
    features to the linear part and the MLP rather than to the FM.
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
        self.user_width = self.num_user_fields * self.embedding_dim + len(spec.user_numeric)
        self.item_width = self.num_item_fields * self.embedding_dim + len(spec.item_numeric)
        self.first = Dense(self.user_width + self.item_width + self.num_facets, hidden_dims[0])
        layers: list[nn.Module] = [ReluDropout(dropout)]
        for width_in, width_out in itertools.pairwise(hidden_dims):
            layers += [Dense(width_in, width_out), ReluDropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden_dims[-1], 1))

    def encode_user(
        self,
        user_fields: Tensor,
        user_numeric: Tensor | None = None,
        user_interest: Tensor | None = None,
        user_history: Tensor | None = None,
    ) -> SideTensors:
        """Return the user's half: linear and FM self term (B,), FM sum (B, D), first layer (B, H), interest."""
        parts = self._user_parts(user_fields, user_numeric, user_interest)
        side = self._half(parts, slice(0, self.user_width), slice(0, len(self.spec.user_numeric)))
        if user_interest is not None:
            side["interest"] = user_interest
        return side

    def encode_item(
        self,
        item_fields: Tensor,
        item_multi: Tensor | None = None,
        item_numeric: Tensor | None = None,
        **knowledge: Tensor,
    ) -> SideTensors:
        """Return the item's half: as the user's, with unit knowledge vectors for the interest scalars."""
        num_user, num_item = len(self.spec.user_numeric), len(self.spec.item_numeric)
        columns = slice(self.user_width, self.user_width + self.item_width)
        parts = self._item_parts(item_fields, item_multi, item_numeric, knowledge)
        side = self._half(parts, columns, slice(num_user, num_user + num_item))
        return side | unit_knowledge(knowledge)

    def _half(self, parts: Parts, columns: slice, numerics: slice) -> SideTensors:
        first_B, vectors_BFD, numeric_BP = parts
        sum_BD, self_B = plain_sum_and_pairs(vectors_BFD)
        flat = vectors_BFD.flatten(1)
        linear_B = first_B + self_B
        if numeric_BP is not None:
            flat = torch.cat([flat, numeric_BP], dim=1)
            linear_B = linear_B + weighted_sum(numeric_BP, self.numeric_weight[numerics])
        return {"linear": linear_B, "sum": sum_BD, "hidden": flat @ self.first.weight[:, columns].T}

    def forward(self, **inputs: Tensor) -> Tensor:
        """Score rows, as `Ranker.forward`; in training from whole fields, one product in place of two."""
        if not self.training:
            return super().forward(**inputs)
        self.check_inputs(inputs)
        user = super().encode_user(**{name: inputs[name] for name in self.user_inputs if name in inputs})
        item = super().encode_item(**{name: inputs[name] for name in self.item_inputs})
        return super().cross(user | {PAIR: inputs[PAIR]} if PAIR in inputs else user, item)

    def interact(self, fields_BFD: Tensor, dense_BX: Tensor, user: SideTensors, item: SideTensors) -> Tensor:
        """Return the FM term and the MLP from whole fields: what `cross` computes from halves."""
        _, fm_B = sum_and_pairs(fields_BFD) if self.training else plain_sum_and_pairs(fields_BFD)
        num_user, num_item = len(self.spec.user_numeric), len(self.spec.item_numeric)
        user_BP, item_BP, interest_BV = torch.split(dense_BX, [num_user, num_item, self.num_facets], dim=1)
        user_BFD, item_BFD = fields_BFD[:, : self.num_user_fields], fields_BFD[:, self.num_user_fields :]
        flat = fields_BFD.flatten(1)
        if self.num_dense:
            flat = torch.cat([user_BFD.flatten(1), user_BP, item_BFD.flatten(1), item_BP, interest_BV], dim=1)
        deep_B: Tensor = self.rest(self.first(flat)).squeeze(1)
        return fm_B + deep_B

    def cross(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Score row by row: logits (B,)."""
        fm_B = (user["sum"] * item["sum"]).sum(1)
        hidden_BH = user["hidden"] + item["hidden"] + self.first.bias
        logits_B = user["linear"] + item["linear"] + fm_B + self.bias
        if self.num_facets:
            interest_BV = self.interest(user, item)
            hidden_BH = hidden_BH + interest_BV @ self._interest_weight.T
            logits_B = logits_B + weighted_sum(interest_BV, self.numeric_weight[-self.num_facets :])
        deep_B: Tensor = self.rest(hidden_BH).squeeze(1)
        return logits_B + deep_B

    def cross_all(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Score every pair: logits (B, N)."""
        fm_BN = user["sum"] @ item["sum"].T
        # Constants join a half before it is as large as B × N; and pairs are rows, for which onnxruntime adds what
        # stands beside a product, and what follows it, within the product.
        hidden_BNH = (user["hidden"] + self.first.bias).unsqueeze(1) + item["hidden"].unsqueeze(0)
        logits_BN = (user["linear"] + self.bias).unsqueeze(1) + item["linear"].unsqueeze(0) + fm_BN
        hidden_RH = hidden_BNH.flatten(0, 1)
        if self.num_facets:
            pairs = zip(self.spec.interest, self._interest_blocks(user), strict=True)
            scalars = [block @ item[facet.against].T for facet, block in pairs]
            interest_RV = self.interest_scaler.scaled_lines(torch.stack(scalars, dim=1)).transpose(1, 2).flatten(0, 1)
            hidden_RH = torch.addmm(hidden_RH, interest_RV, self._interest_weight.T)
            linear_R = weighted_sum(interest_RV, self.numeric_weight[-self.num_facets :])
            logits_BN = logits_BN + linear_R.view_as(logits_BN)
        deep_R1: Tensor = self.rest(hidden_RH)
        return logits_BN + deep_R1.view_as(logits_BN)

    @property
    def _interest_weight(self) -> Tensor:
        """Columns of the first layer that read the interest scalars, shape (H, V)."""
        return self.first.weight[:, -self.num_facets :]
