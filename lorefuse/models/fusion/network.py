"""Fusion networks: a gate between id and knowledge, and a bilinear product of the two.

Suffixes: ``B`` rows, ``D`` id dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorefuse.models.fusion.base import Fusion, small_linear


class GatedFusion(Fusion):
    """``e = g ⊙ id + (1 − g) ⊙ W·knowledge`` with ``g = σ(U·[id; W·knowledge])``, one gate per dimension.

    Gates collapse: all open (the knowledge has no effect) or all shut (the ids are). `diagnostics` gives the mean,
    the spread and the share of gates beyond 0.05 and 0.95; the training history keeps them and warns. An unseen item
    has its gate shut: it is its knowledge alone. An item without knowledge has it open.

    Source: gated multimodal units, arXiv:1702.01992, eq. 3.
    """

    def __init__(self, knowledge_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__(knowledge_dims, embedding_dim)
        self.project = small_linear(sum(self.dims), embedding_dim)
        self.gate = nn.Linear(2 * embedding_dim, embedding_dim)

    def forward(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        """Fuse; see `Fusion.forward`."""
        gate_BD, told_BD = self._gate(id_BD, knowledge, known_B)
        return (gate_BD * id_BD + (1 - gate_BD) * told_BD).unsqueeze(1)

    def diagnostics(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> dict[str, float]:
        """Return mean, deviation and share of saturated gates over known items that have knowledge."""
        gate_BD, _ = self._gate(id_BD, knowledge, known_B)
        free_BD = gate_BD[known_B & (torch.cat(knowledge, dim=1).abs().sum(1) > 0)]
        if not len(free_BD):
            return {}
        saturated = ((free_BD < 0.05) | (free_BD > 0.95)).float().mean()
        return {
            "gate_mean": float(free_BD.mean()),
            "gate_std": float(free_BD.std(correction=0)),
            "gate_saturated": float(saturated),
        }

    def _gate(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> tuple[Tensor, Tensor]:
        scaled_BE = torch.cat(self.scaled(knowledge), dim=1)
        told_BD = self.project(scaled_BE)
        gate_BD = torch.sigmoid(self.gate(torch.cat([id_BD, told_BD], dim=1)))
        has_B1 = torch.cat(knowledge, dim=1).abs().sum(1, keepdim=True) > 0
        gate_BD = torch.where(has_B1 & ~known_B.unsqueeze(1), torch.zeros_like(gate_BD), gate_BD)
        return torch.where(has_B1, gate_BD, torch.ones_like(gate_BD)), told_BD


class BilinearFusion(Fusion):
    """``e = id + W·knowledge + (U·id) ⊙ (V·knowledge)``: the residual, and a product of the two.

    Source: low-rank bilinear pooling (Kim et al., arXiv:1610.04325, eq. 5, without its nonlinearity), added to the
    residual so that an unseen item still has its knowledge.
    """

    def __init__(self, knowledge_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__(knowledge_dims, embedding_dim)
        self.project = small_linear(sum(self.dims), embedding_dim)
        self.left = nn.Linear(embedding_dim, embedding_dim, bias=False)
        self.right = small_linear(sum(self.dims), embedding_dim)

    def forward(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        """Fuse; see `Fusion.forward`."""
        scaled_BE = torch.cat(self.scaled(knowledge), dim=1)
        fused_BD: Tensor = id_BD + self.project(scaled_BE) + self.left(id_BD) * self.right(scaled_BE)
        return fused_BD.unsqueeze(1)
