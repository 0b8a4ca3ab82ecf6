"""Fusion of knowledge vectors into the item's id embedding: one class per way, chosen by `model.fusion`."""

from __future__ import annotations

from collections.abc import Sequence

from lorefuse.models.fusion.additive import ConcatFusion, NullSpaceFusion, ResidualFusion, WeightedFusion
from lorefuse.models.fusion.attention import AttentionFusion
from lorefuse.models.fusion.base import Fusion
from lorefuse.models.fusion.network import BilinearFusion, GatedFusion

FUSIONS: dict[str, type[Fusion]] = {
    "residual": ResidualFusion,
    "concat": ConcatFusion,
    "weighted": WeightedFusion,
    "attention": AttentionFusion,
    "gated": GatedFusion,
    "bilinear": BilinearFusion,
    "null_space": NullSpaceFusion,
}
"""`model.fusion` → class."""


def make_fusion(name: str, knowledge_dims: Sequence[int], embedding_dim: int) -> Fusion | None:
    """Return the fusion of that name; None for ``none``, and where there is no knowledge to fuse."""
    dims = tuple(knowledge_dims)
    if name == "none" or not sum(dims) or not embedding_dim:
        return None
    return FUSIONS[name](dims, embedding_dim)
