"""What every fusion shares: knowledge vectors in, one or more item fields out.

Suffixes: ``B`` rows, ``K`` fused fields, ``D`` id dim, ``E`` knowledge dim.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lorefuse.models.layers import NumericScaler, has_vector


class Fusion(nn.Module, ABC):
    """Turn an item's id embedding and its knowledge vectors into fields of width D.

    Only the leading dimensions of each vector enter (PCA and SVD put the most telling ones first), standardised over
    train items; an item without a vector contributes zeros for it.

    Args:
        knowledge_dims: How many leading dimensions of each knowledge vector to use, e.g. ``(16, 32)``.
        embedding_dim: D.

    Attributes:
        num_fields: K, how many fields come out.
    """

    num_fields: int = 1

    def __init__(self, knowledge_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__()
        self.dims = tuple(knowledge_dims)
        self.embedding_dim = embedding_dim
        self.scalers = nn.ModuleList(NumericScaler(dim) for dim in self.dims)

    def fit(self, knowledge: list[Tensor], times_N: Tensor) -> None:
        """Fit the scalers on the items' vectors, (N, E_i) each; rows of zeros (no text, no entity) do not count.

        Args:
            knowledge: Tables of the catalogue.
            times_N: Train rows of each item.
        """
        for scaler, vectors, dim in zip(self.scalers, knowledge, self.dims, strict=True):
            cast(NumericScaler, scaler).fit_present(vectors, times_N, dim)

    def scaled(self, knowledge: list[Tensor]) -> list[Tensor]:
        """Return the leading dimensions of each vector, standardised; zeros where an item has none."""
        result = []
        for scaler, vector, dim in zip(self.scalers, knowledge, self.dims, strict=True):
            leading = vector[:, :dim]
            present_B1 = has_vector(vector).unsqueeze(1).to(vector.dtype)
            result.append(scaler(leading) * present_B1)
        return result

    @abstractmethod
    def forward(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        """Fuse.

        Args:
            id_BD: Id embedding, float32; of the unseen index where nobody has seen the item.
            knowledge: One (B, E_i) tensor per entry of `knowledge_dims`; zeros where an item has none.
            known_B: bool, False where the id is the unseen index.

        Returns:
            The item's fields, shape (B, K, D).
        """

    def diagnostics(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> dict[str, float]:
        """Return figures to watch in training, by name; most fusions have none. Arguments as in `forward`."""
        return {}


def facets(projections: nn.ModuleList, scaled: list[Tensor]) -> Tensor:
    """Return one projected vector per knowledge vector, (B, n, D)."""
    return torch.stack([project(vector) for project, vector in zip(projections, scaled, strict=True)], dim=1)


def small_linear(width_in: int, width_out: int) -> nn.Linear:
    """Return a linear layer without bias that starts near zero, so that training begins as the id-only model would."""
    layer = nn.Linear(width_in, width_out, bias=False)
    nn.init.normal_(layer.weight, std=0.01)
    return layer
