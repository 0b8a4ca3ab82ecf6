"""Sections of the model families."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lorefuse.config.base import Section


class DeepFMConfig(Section):
    """DeepFM with knowledge as a residual of the item embedding."""

    family: Literal["deepfm"] = "deepfm"
    embedding_dim: int = Field(16, ge=1, le=512, description="Dimensions D of each field's embedding.")
    hidden_dims: tuple[int, ...] = Field((128, 64), min_length=1, description="Widths of the deep part.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout in the deep part.")
    id_dropout: float = Field(0.1, ge=0, lt=1, description="Share of item ids replaced by the unseen index.")
    residual_text_dim: int = Field(16, ge=0, description="Leading text dimensions that enter the residual.")
    residual_graph_dim: int = Field(32, ge=0, description="Leading graph dimensions that enter the residual.")


ModelConfig = DeepFMConfig
"""Becomes a discriminated union as families are added."""
