"""Fusion of knowledge vectors into the item's id embedding.

Suffixes: ``B`` rows, ``D`` id dim, ``E`` knowledge dim (text and graph side by side).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualFusion(nn.Module):
    """Add a linear image of the knowledge vector to the id embedding: ``e = id + W·[text; graph]``.

    A frequent item learns its own id vector and the knowledge is a prior for it; an item nobody has seen has the
    unseen id's vector plus its knowledge. `W` starts small, so that training begins as the id-only model would.

    Args:
        knowledge_dims: Width of each knowledge vector, e.g. ``(16, 32)``.
        embedding_dim: D.

    Example:
        >>> fuse = ResidualFusion((2,), embedding_dim=3)
        >>> id_BD = torch.ones(4, 3)
        >>> bool((fuse(id_BD, [torch.zeros(4, 2)]) == id_BD).all())
        True
    """

    def __init__(self, knowledge_dims: tuple[int, ...], embedding_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(sum(knowledge_dims), embedding_dim, bias=False)
        nn.init.normal_(self.project.weight, std=0.01)

    def forward(self, id_BD: Tensor, knowledge: list[Tensor]) -> Tensor:
        """Fuse.

        Args:
            id_BD: Id embedding, float32.
            knowledge: One (B, E_i) tensor per entry of `knowledge_dims`; zeros where an item has none.

        Returns:
            The fused item embedding, shape (B, D).
        """
        fused: Tensor = id_BD + self.project(torch.cat(knowledge, dim=1))
        return fused
