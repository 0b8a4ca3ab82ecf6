"""DeepFM with knowledge as a residual of the item embedding and as interest scalars.

Suffixes: ``B`` rows, ``N`` catalogue, ``F`` fields, ``D`` id dim, ``H`` first hidden width, ``V`` interest facets.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from lorefuse.contract import Tensor as TensorName
from lorefuse.features.spec import FeatureSpec
from lorefuse.models.fusion import ResidualFusion
from lorefuse.models.layers import FusedEmbedding, NumericScaler, unit_length
from lorefuse.models.ranker import Ranker, Side


class DeepFM(Ranker):
    """Sum of a linear part, a factorisation machine over field embeddings, and an MLP on all of them.

    The user's and the item's halves meet in three places only, each of which splits exactly:

    * the FM term, ``½(|u+i|² − Σ|v|²) = self(u) + self(i) + u·i`` with u, i the sums of each side's field vectors;
    * the first layer of the MLP, which is linear, so its rows for user and item inputs are applied apart and added;
    * the interest scalars, dot products of the user's liked-mean vectors with the item's unit knowledge vectors.

    Args:
        spec: Names and widths of the inputs.
        embedding_dim: D.
        hidden_dims: Widths of the MLP.
        dropout: Dropout after each hidden layer.
        id_dropout: Share of user and item ids replaced by the unseen index in training.
        residual_text_dim: Leading text dimensions in the residual; the interest scalars use all.
        residual_graph_dim: The same of the graph.

    Source: DeepFM, arXiv:1703.04247, eqs. 1-4. We add the knowledge residual and the interest scalars, and feed
    numeric features to the linear part and the MLP rather than to the FM.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        embedding_dim: int = 16,
        hidden_dims: tuple[int, ...] = (128, 64),
        dropout: float = 0.2,
        id_dropout: float = 0.1,
        residual_text_dim: int = 16,
        residual_graph_dim: int = 32,
    ) -> None:
        super().__init__(spec)
        self.user_embedding = FusedEmbedding(spec.user_fields, (), embedding_dim, id_dropout)
        self.item_embedding = FusedEmbedding(spec.item_fields, spec.item_multi_fields, embedding_dim, id_dropout)
        self.user_scaler = NumericScaler(len(spec.user_numeric))
        self.item_scaler = NumericScaler(len(spec.item_numeric))
        residual_dims = ((spec.text_dim, residual_text_dim), (spec.graph_dim, residual_graph_dim))
        knowledge_dims = tuple(min(pair) for pair in residual_dims if pair[0])
        self.fusion = ResidualFusion(knowledge_dims, embedding_dim) if sum(knowledge_dims) else None

        self.user_width = self.user_embedding.num_fields * embedding_dim + len(spec.user_numeric)
        self.item_width = self.item_embedding.num_fields * embedding_dim + len(spec.item_numeric)
        self.num_facets = len(spec.interest)
        self.interest_scaler = NumericScaler(self.num_facets)
        num_numerics = len(spec.user_numeric) + len(spec.item_numeric)
        self.numeric_weight = nn.Parameter(torch.zeros(num_numerics + self.num_facets))
        self.bias = nn.Parameter(torch.zeros(()))
        self.first = nn.Linear(self.user_width + self.item_width + self.num_facets, hidden_dims[0])
        layers: list[nn.Module] = [nn.ReLU(), nn.Dropout(dropout)]
        for width_in, width_out in itertools.pairwise(hidden_dims):
            layers += [nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden_dims[-1], 1))

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Return the two fused tables."""
        return [self.user_embedding.table, self.item_embedding.table]

    def encode_user(
        self, user_fields: Tensor, user_numeric: Tensor | None = None, user_interest: Tensor | None = None
    ) -> Side:
        """Return the user's half: linear and FM self term (B,), FM sum (B, D), first layer (B, H), interest."""
        first_B, vectors_BFD = self.user_embedding(user_fields)
        numeric_BP = None if user_numeric is None else self.user_scaler(user_numeric)
        num_user = len(self.spec.user_numeric)
        side = self._half(first_B, vectors_BFD, numeric_BP, slice(0, self.user_width), slice(0, num_user))
        if user_interest is not None:
            side["interest"] = user_interest
        return side

    def encode_item(
        self,
        item_fields: Tensor,
        item_multi: Tensor | None = None,
        item_numeric: Tensor | None = None,
        item_text: Tensor | None = None,
        item_graph: Tensor | None = None,
    ) -> Side:
        """Return the item's half: as the user's, with unit knowledge vectors for the interest scalars."""
        first_B, vectors_BFD = self.item_embedding(item_fields, item_multi)
        knowledge = [vector for vector in (item_text, item_graph) if vector is not None]
        if self.fusion is not None:
            fused_BD = self.fusion(vectors_BFD[:, 0], knowledge)
            vectors_BFD = torch.cat([fused_BD.unsqueeze(1), vectors_BFD[:, 1:]], dim=1)
        numeric_BP = None if item_numeric is None else self.item_scaler(item_numeric)
        num_user, num_item = len(self.spec.user_numeric), len(self.spec.item_numeric)
        columns = slice(self.user_width, self.user_width + self.item_width)
        side = self._half(first_B, vectors_BFD, numeric_BP, columns, slice(num_user, num_user + num_item))
        against = {TensorName.ITEM_TEXT: item_text, TensorName.ITEM_GRAPH: item_graph}
        for name, vector in against.items():
            if vector is not None:
                side[name.value] = unit_length(vector)
        return side

    def _half(
        self, first_B: Tensor, vectors_BFD: Tensor, numeric_BP: Tensor | None, columns: slice, numerics: slice
    ) -> Side:
        sum_BD = vectors_BFD.sum(1)
        self_B = 0.5 * (sum_BD.square() - vectors_BFD.square().sum(1)).sum(1)
        flat = vectors_BFD.flatten(1)
        linear_B = first_B + self_B
        if numeric_BP is not None:
            flat = torch.cat([flat, numeric_BP], dim=1)
            linear_B = linear_B + numeric_BP @ self.numeric_weight[numerics]
        return {"linear": linear_B, "sum": sum_BD, "hidden": flat @ self.first.weight[:, columns].T}

    def cross(self, user: Side, item: Side) -> Tensor:
        """Score row by row: logits (B,)."""
        fm_B = (user["sum"] * item["sum"]).sum(1)
        hidden_BH = user["hidden"] + item["hidden"] + self.first.bias
        logits_B = user["linear"] + item["linear"] + fm_B + self.bias
        if self.num_facets:
            pairs = zip(self.spec.interest, self._interest_blocks(user), strict=True)
            scalars = [(block * item[facet.against.value]).sum(1) for facet, block in pairs]
            interest_BV = self.interest_scaler(torch.stack(scalars, dim=1))
            hidden_BH = hidden_BH + interest_BV @ self._interest_weight.T
            logits_B = logits_B + interest_BV @ self.numeric_weight[-self.num_facets :]
        deep_B: Tensor = self.rest(hidden_BH).squeeze(1)
        return logits_B + deep_B

    def cross_all(self, user: Side, item: Side) -> Tensor:
        """Score every pair: logits (B, N)."""
        fm_BN = user["sum"] @ item["sum"].T
        hidden_BNH = user["hidden"].unsqueeze(1) + item["hidden"].unsqueeze(0) + self.first.bias
        logits_BN = user["linear"].unsqueeze(1) + item["linear"].unsqueeze(0) + fm_BN + self.bias
        if self.num_facets:
            pairs = zip(self.spec.interest, self._interest_blocks(user), strict=True)
            scalars = [block @ item[facet.against.value].T for facet, block in pairs]
            interest_BNV = self.interest_scaler(torch.stack(scalars, dim=2))
            hidden_BNH = hidden_BNH + interest_BNV @ self._interest_weight.T
            logits_BN = logits_BN + interest_BNV @ self.numeric_weight[-self.num_facets :]
        deep_BN: Tensor = self.rest(hidden_BNH).squeeze(2)
        return logits_BN + deep_BN

    def fit_scaling(self, inputs: dict[str, Tensor]) -> None:
        """Fit the scalers on the inputs of train rows; call once, before training.

        Args:
            inputs: As for `forward`.
        """
        if self.spec.user_numeric:
            self.user_scaler.fit(inputs["user_numeric"])
        if self.spec.item_numeric:
            self.item_scaler.fit(inputs["item_numeric"])
        names = [name.value for name in (TensorName.ITEM_TEXT, TensorName.ITEM_GRAPH)]
        knowledge: dict[str, Tensor] = {name: inputs[name] for name in names if name in inputs}
        if self.fusion is not None:
            self.fusion.fit(list(knowledge.values()))
        if self.num_facets:
            pairs = zip(self.spec.interest, self._interest_blocks({"interest": inputs["user_interest"]}), strict=True)
            scalars = [(block * unit_length(knowledge[facet.against.value])).sum(1) for facet, block in pairs]
            self.interest_scaler.fit(torch.stack(scalars, dim=1))

    def _interest_blocks(self, user: Side) -> tuple[Tensor, ...]:
        return torch.split(user["interest"], [facet.dim for facet in self.spec.interest], dim=1)

    @property
    def _interest_weight(self) -> Tensor:
        """Columns of the first layer that read the interest scalars, shape (H, V)."""
        return self.first.weight[:, -self.num_facets :]
