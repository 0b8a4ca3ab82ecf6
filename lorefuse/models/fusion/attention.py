"""Attention over facets: the id asks, its own vector and each knowledge vector answer.

Suffixes: ``B`` rows, ``n`` facets with the id first, ``D`` id dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorefuse.models.fusion.additive import masked_softmax, presence
from lorefuse.models.fusion.base import Fusion, facets, small_linear


class AttentionFusion(Fusion):
    """``e = Σ aᵢ vᵢ`` with ``a = softmax(q·kᵢ / √D)`` over the id and each projected knowledge vector.

    The query comes from the id, so that each item weighs its facets for itself; an unseen item asks with the unseen
    id's vector and gets its knowledge alone.

    Source: scaled dot-product attention, arXiv:1706.03762, eq. 1, with one query and the facets as keys and values.
    """

    def __init__(self, knowledge_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__(knowledge_dims, embedding_dim)
        self.projections = nn.ModuleList(small_linear(dim, embedding_dim) for dim in self.dims)
        self.query = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.key = nn.Linear(embedding_dim, embedding_dim, bias=False)

    def forward(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        """Fuse; see `Fusion.forward`."""
        values_BnD = self._values(id_BD, knowledge)
        weight_Bn = self._weights(id_BD, values_BnD, presence(knowledge, known_B))
        return (weight_Bn.unsqueeze(2) * values_BnD).sum(1, keepdim=True)

    def diagnostics(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> dict[str, float]:
        """Return the mean weight of the id over known items and the mean entropy of the weights, in nats."""
        weight_Bn = self._weights(id_BD, self._values(id_BD, knowledge), presence(knowledge, known_B))
        entropy_B = -(weight_Bn * weight_Bn.clamp(min=1e-9).log()).sum(1)
        known = weight_Bn[known_B, 0]
        return {"weight_of_id": float(known.mean()) if len(known) else 0.0, "entropy": float(entropy_B.mean())}

    def _values(self, id_BD: Tensor, knowledge: list[Tensor]) -> Tensor:
        return torch.cat([id_BD.unsqueeze(1), facets(self.projections, self.scaled(knowledge))], dim=1)

    def _weights(self, id_BD: Tensor, values_BnD: Tensor, present_Bn: Tensor) -> Tensor:
        logit_Bn = (self.query(id_BD).unsqueeze(1) * self.key(values_BnD)).sum(2) / self.embedding_dim**0.5
        return masked_softmax(logit_Bn, present_Bn)
