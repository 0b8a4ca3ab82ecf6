"""Fusions that add: residual, weighted average, and ids in the text's null space; and concatenation as more fields.

Suffixes: ``B`` rows, ``K`` fused fields, ``D`` id dim, ``S`` frozen semantic dims.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lorefuse.models.fusion.base import Fusion, facets, small_linear


class ResidualFusion(Fusion):
    """Add a linear image of the knowledge vectors to the id embedding: ``e = id + W·[text; graph]``.

    A frequent item learns its own id vector and the knowledge is a prior for it; an item nobody has seen has the
    unseen id's vector plus its knowledge. `W` starts small, so that training begins as the id-only model would.

    Example:
        >>> fuse = ResidualFusion((2,), embedding_dim=3)
        >>> id_BD = torch.ones(4, 3)
        >>> bool((fuse(id_BD, [torch.zeros(4, 2)], torch.ones(4, dtype=torch.bool))[:, 0] == id_BD).all())
        True
    """

    def __init__(self, knowledge_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__(knowledge_dims, embedding_dim)
        self.project = small_linear(sum(self.dims), embedding_dim)

    def forward(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        """Fuse; see `Fusion.forward`."""
        fused_BD: Tensor = id_BD + self.project(torch.cat(self.scaled(knowledge), dim=1))
        return fused_BD.unsqueeze(1)


class ConcatFusion(Fusion):
    """Keep the id's field and add one field per knowledge vector: ``[id; W₁·text; W₂·graph]``.

    The interaction layers then meet the knowledge as they meet any other field. The most common fusion, and the one
    that turns whitened vectors into fingerprints of items: keep `knowledge_dims` small.
    """

    def __init__(self, knowledge_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__(knowledge_dims, embedding_dim)
        self.num_fields = 1 + len(self.dims)
        self.projections = nn.ModuleList(small_linear(dim, embedding_dim) for dim in self.dims)

    def forward(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        """Fuse; see `Fusion.forward`."""
        return torch.cat([id_BD.unsqueeze(1), facets(self.projections, self.scaled(knowledge))], dim=1)


class WeightedFusion(Fusion):
    """A learned weighted average of the id and of each projected knowledge vector: ``e = Σ softmax(w)ᵢ · vᵢ``.

    One weight per vector, the same for all items; where an id is unseen or a vector is missing its weight goes to the
    others, so an unseen item is its knowledge alone. The id starts with nine tenths of the weight.
    """

    def __init__(self, knowledge_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__(knowledge_dims, embedding_dim)
        self.projections = nn.ModuleList(small_linear(dim, embedding_dim) for dim in self.dims)
        logit = torch.zeros(1 + len(self.dims))
        logit[0] = torch.log(torch.tensor(9.0 * len(self.dims)))
        self.logit = nn.Parameter(logit)

    def forward(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        """Fuse; see `Fusion.forward`."""
        vectors_BnD = torch.cat([id_BD.unsqueeze(1), facets(self.projections, self.scaled(knowledge))], dim=1)
        weight_Bn = masked_softmax(self.logit.expand(id_BD.shape[0], -1), presence(knowledge, known_B))
        return (weight_Bn.unsqueeze(2) * vectors_BnD).sum(1, keepdim=True)

    def diagnostics(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> dict[str, float]:
        """Return the weight of the id where everything is there."""
        return {"weight_of_id": float(torch.softmax(self.logit.detach(), 0)[0])}


class NullSpaceFusion(Fusion):
    """Frozen knowledge in some dimensions, the learned id in the others: ``e = [s·knowledge_S ; id_{D−S}]``.

    The knowledge keeps its geometry untouched by training and the ids learn what it cannot say, in directions that
    it does not use. Half of D is knowledge, shared evenly by the vectors; one learned scale `s` sets its size.

    Source: AlphaFuse, arXiv:2504.19218, which decomposes the text space and learns ids in its null space. We depart:
    the text is reduced by PCA beforehand, so its leading dimensions are the semantic subspace and the padded ones
    are the null space.
    """

    def __init__(self, knowledge_dims: Sequence[int], embedding_dim: int) -> None:
        super().__init__(knowledge_dims, embedding_dim)
        share = max(1, embedding_dim // 2 // len(self.dims))
        self.taken = tuple(min(share, dim) for dim in self.dims)
        self.num_semantic = min(sum(self.taken), embedding_dim)
        self.scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, id_BD: Tensor, knowledge: list[Tensor], known_B: Tensor) -> Tensor:
        """Fuse; see `Fusion.forward`."""
        leading = [vector[:, :dim] for vector, dim in zip(self.scaled(knowledge), self.taken, strict=True)]
        frozen_BS = self.scale * torch.cat(leading, dim=1)[:, : self.num_semantic]
        return torch.cat([frozen_BS, id_BD[:, self.num_semantic :]], dim=1).unsqueeze(1)


def presence(knowledge: list[Tensor], known_B: Tensor) -> Tensor:
    """Return which vectors an item has, bool (B, 1 + n): its id first. An item with nothing at all keeps its id."""
    has = [vector.abs().sum(1) > 0 for vector in knowledge]
    nothing_B = ~torch.stack([known_B, *has], dim=1).any(1)
    return torch.stack([known_B | nothing_B, *has], dim=1)


def masked_softmax(logit_Bn: Tensor, present_Bn: Tensor) -> Tensor:
    """Softmax over the present entries of each row; absent ones get exactly 0."""
    return torch.softmax(logit_Bn.masked_fill(~present_Bn, -1e9), dim=1) * present_Bn
