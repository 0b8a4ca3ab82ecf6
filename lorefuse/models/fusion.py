"""Fusion of knowledge vectors into the item's id embedding.

Suffixes: ``B`` rows, ``D`` id dim, ``E`` knowledge dim (text and graph side by side).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from lorefuse.models.layers import NumericScaler


class ResidualFusion(nn.Module):
    """Add a linear image of the knowledge vectors to the id embedding: ``e = id + W·[text; graph]``.

    A frequent item learns its own id vector and the knowledge is a prior for it; an item nobody has seen has the
    unseen id's vector plus its knowledge. Only the leading dimensions enter (PCA and SVD put the most telling ones
    first), standardised over train items; an item without a vector gets nothing added. `W` starts small, so that
    training begins as the id-only model would.

    Args:
        knowledge_dims: How many leading dimensions of each knowledge vector to use, e.g. ``(16, 32)``.
        embedding_dim: D.

    Example:
        >>> fuse = ResidualFusion((2,), embedding_dim=3)
        >>> id_BD = torch.ones(4, 3)
        >>> bool((fuse(id_BD, [torch.zeros(4, 2)]) == id_BD).all())
        True
    """

    def __init__(self, knowledge_dims: tuple[int, ...], embedding_dim: int) -> None:
        super().__init__()
        self.dims = knowledge_dims
        self.scalers = nn.ModuleList(NumericScaler(dim) for dim in knowledge_dims)
        self.project = nn.Linear(sum(knowledge_dims), embedding_dim, bias=False)
        nn.init.normal_(self.project.weight, std=0.01)

    def fit(self, knowledge: list[Tensor]) -> None:
        """Fit the scalers on train items, (n, E_i) each; rows of zeros (no text, no entity) do not count."""
        for scaler, vectors, dim in zip(self.scalers, knowledge, self.dims, strict=True):
            present = vectors[vectors.abs().sum(1) > 0]
            if len(present):
                cast(NumericScaler, scaler).fit(present[:, :dim])

    def forward(self, id_BD: Tensor, knowledge: list[Tensor]) -> Tensor:
        """Fuse.

        Args:
            id_BD: Id embedding, float32.
            knowledge: One (B, E_i) tensor per entry of `knowledge_dims`; zeros where an item has none.

        Returns:
            The fused item embedding, shape (B, D).
        """
        scaled = []
        for scaler, vector, dim in zip(self.scalers, knowledge, self.dims, strict=True):
            present_B1 = (vector.abs().sum(1, keepdim=True) > 0).to(vector.dtype)
            scaled.append(scaler(vector[:, :dim]) * present_B1)
        fused: Tensor = id_BD + self.project(torch.cat(scaled, dim=1))
        return fused
