"""Sections of what is known about items and users: text, graph, features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lorefuse.config.base import Section


class EmbeddingConfig(Section):
    """Item text → vectors."""

    encoder: str = Field("minilm", description="`minilm` (bundled weights), a hub name, or a local folder.")
    revision: str | None = Field(None, description="Revision of a hub model; part of the cache address.")
    prompt: str = Field("default@1", description="Versioned template that turns item columns into one text.")
    pooling: Literal["mean", "cls", "last_token"] = Field("mean", description="Token vectors → text vector.")
    max_tokens: int = Field(256, ge=8, le=8192, description="Longer texts are cut here.")
    tokens_per_batch: int = Field(1024, ge=64, description="Padded tokens encoded at a time.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Arithmetic of the encoder.")
    device: str = Field("cpu", description="torch device of the encoder.")
    num_threads: int | None = Field(None, ge=1, description="torch threads; null: all cores.")
    reduce_dim: int = Field(32, ge=1, le=4096, description="Dimensions kept by PCA, fitted on train items.")


class KnowledgeConfig(Section):
    """Knowledge graph → vectors."""

    graph_dim: int = Field(64, ge=1, le=1024, description="Dimensions of the item-entity SVD.")
    min_link_z: float = Field(3.0, ge=0, description="Links less plausible than this many sigmas are refused.")


class FeatureConfig(Section):
    """Aggregates, interest vectors and the item prior."""

    interest_shrinkage: float = Field(10.0, ge=0, description="κ of n/(n+κ): short histories count less.")
    prior_shrinkage: float = Field(10.0, ge=0, description="Pseudo-rows that pull an item's mean to the overall mean.")
    num_prior_folds: int = Field(5, ge=2, description="Folds of the out-of-fold item prior.")
    history_length: int = Field(50, ge=1, description="Recent liked items kept per user.")
    min_category_count: int = Field(1, ge=1, description="Rarer train categories become unseen (index 0).")
