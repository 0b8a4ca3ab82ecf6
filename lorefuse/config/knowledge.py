"""Sections of what is known about items and users: text, graph, features."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lorefuse.config.base import Section
from lorefuse.core.schema import BLOCK_NAME, GRAPH, RESERVED_BLOCKS, TEXT

REDUCTION_FIELDS = (
    "reducer",
    "reducer_seed",
    "reduce_dim",
    "facets",
    "profile_items",
    "profile_prompt",
    "written_users",
)
"""Fields of `EmbeddingConfig` that decide what becomes of the encoder's vectors, beside the vectors themselves."""


class FacetConfig(Section):
    """One text of an item: its own columns, and its own block in the text matrix."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Name of the facet.")
    columns: tuple[str, ...] = Field((), description="Item columns that make up the text.")
    reviews: int = Field(
        0, ge=0, le=50, description="In place of columns: the first train reviews of the item, so many of them."
    )
    prompt: str | None = Field(None, description="Its template; null: embedding.prompt.")
    reduce_dim: int | None = Field(None, ge=1, le=4096, description="Width of its block; null: embedding.reduce_dim.")


class FineTuneConfig(Section):
    """Fine-tuning of the encoder on which items are liked together (LoRA, InfoNCE)."""

    steps: int = Field(200, ge=1, description="Optimizer steps.")
    batch_size: int = Field(32, ge=2, description="Pairs in a batch; the others of the batch are the negatives.")
    lr: float = Field(2e-4, gt=0, description="Peak learning rate; warms up over a tenth, then falls to zero.")
    temperature: float = Field(0.05, gt=0, description="Temperature of the contrastive loss.")
    rank: int = Field(8, ge=1, le=256, description="Rank of the LoRA matrices.")
    alpha: int = Field(16, ge=1, description="LoRA scale is alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout before the LoRA matrices.")
    max_gap: int = Field(3, ge=1, description="Liked items of a user at most this far apart make a pair.")
    seed: int = Field(0, ge=0, description="Seed of pairs, batches and initial weights.")


class EmbeddingConfig(Section):
    """Item text → vectors."""

    encoder: str = Field("minilm", description="`minilm` (bundled weights), a hub name, or a local folder.")
    revision: str | None = Field(None, description="Revision of a hub model; part of the cache address.")
    prompt: str = Field("default@1", description="Versioned template, or a text with `{column}` placeholders.")
    instruction: str = Field("", description="Put before each text, as instruction-tuned encoders want it.")
    pooling: Literal["mean", "cls", "last_token"] = Field("mean", description="Token vectors → text vector.")
    append_eos: bool = Field(False, description="End each text with the end token that last_token pooling reads.")
    max_tokens: int = Field(256, ge=8, le=8192, description="Longer texts are cut here.")
    tokens_per_batch: int = Field(4096, ge=64, description="Tokens encoded at a time, padding included.")
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="Arithmetic of the encoder; auto: what is fastest here and keeps float32's neighbours."
    )
    device: str = Field("cpu", description="torch device of the encoder.")
    num_threads: int | None = Field(
        None, ge=1, description="torch threads; null: all cores. Another number changes the last bits."
    )
    num_shards: int = Field(1, ge=1, le=1024, description="Parts that `lorefuse embed` encodes side by side.")
    truncate_dim: int | None = Field(None, ge=1, description="Leading dimensions kept (Matryoshka); null: all.")
    normalize: bool = Field(True, description="Scale vectors to unit length.")
    word_dim: int = Field(
        0, ge=0, le=4096, description="Places for hashed words beside the encoder's vector; meant for `supervised`."
    )
    reducer: Literal["none", "pca", "whitening", "random_projection", "supervised"] = Field(
        "pca", description="Linear map to fewer dimensions, fitted on train items."
    )
    reducer_seed: int = Field(0, ge=0, description="Seed of the random projection.")
    reduce_dim: int = Field(32, ge=1, le=4096, description="Dimensions kept by the reducer; `none` keeps all.")
    facets: tuple[FacetConfig, ...] = Field(
        (), description="Several texts per item, `{name: [columns]}` or a list; empty: one text of the item_text roles."
    )
    written: dict[str, str] = Field(
        {}, description="Text that `lorefuse enrich` wrote, as column name → folder; facets and prompts may name it."
    )
    profile_items: int = Field(
        0, ge=0, le=100, description="Last liked items in a user's profile text, encoded after each of them; 0: none."
    )
    profile_prompt: str = Field("liked@1", description="Versioned template of the profile text.")
    written_users: str = Field(
        "", description="Folder that `lorefuse enrich --about users` wrote: texts about users; empty: none."
    )
    fine_tune: FineTuneConfig = Field(FineTuneConfig(), description="How `fine_tune` would adapt the encoder.")

    @field_validator("facets", mode="before")
    @classmethod
    def _mapping_is_short_for_a_list(cls, content: Any) -> Any:
        """A list keeps its order on every way through JSON; a mapping might not."""
        if isinstance(content, dict):
            return [{"name": name, "columns": columns} for name, columns in content.items()]
        return content

    @model_validator(mode="after")
    def _facets_fit(self) -> EmbeddingConfig:
        repeated = [name for name, count in Counter(facet.name for facet in self.facets).items() if count > 1]
        if repeated:
            raise ValueError(f"two facets have the name {repeated[0]!r}")
        for facet in self.facets:
            if facet.reviews and (facet.columns or facet.prompt):
                raise ValueError(f"facet {facet.name!r} is made of reviews: it has neither columns nor a prompt")
            if not facet.reviews and not facet.columns and "{" not in (facet.prompt or self.prompt):
                raise ValueError(f"facet {facet.name!r} names no columns, and its prompt holds no {{column}}")
        return self


class OwnVectorsConfig(Section):
    """Vectors of one's own, as a knowledge block beside text and graph."""

    path: Path = Field(description="Parquet with item_id and vector (a list), or an npz of arrays with these names.")
    reduce_dim: int = Field(32, ge=1, le=4096, description="Dimensions kept; vectors that are narrower keep theirs.")
    reducer: Literal["none", "pca", "whitening", "random_projection"] = Field(
        "pca", description="Linear map to fewer dimensions, fitted on train items; none keeps the vectors as they are."
    )


class KnowledgeConfig(Section):
    """Knowledge graph → vectors. `seed` and what follows it is read by the trained methods: all but svd."""

    item_vectors: dict[Annotated[str, Field(pattern=f"^{BLOCK_NAME}$")], OwnVectorsConfig] = Field(
        {}, description="Vectors of one's own by name of the block: `{image: posters.parquet}`, or the keys below."
    )
    method: Literal["svd", "transe", "rotate", "kgat"] = Field(
        "svd", description="Item-entity SVD, a graph embedding, or attention over neighbours (kgat)."
    )
    graph_dim: int = Field(64, ge=1, le=1024, description="Dimensions of an item's graph vector.")
    min_link_z: float = Field(3.0, ge=0, description="Links less plausible than this many sigmas are refused.")
    seed: int = Field(0, ge=0, description="Seed of the held-out triples, initial weights and negatives.")
    epochs: int = Field(8, ge=0, description="Passes over the triples.")
    batch_size: int = Field(2048, ge=1, description="Triples in a batch.")
    num_negatives: int = Field(32, ge=1, description="Corrupted heads, and as many corrupted tails, per batch.")
    learning_rate: float | None = Field(
        None, gt=0, description="Step size at the start, which falls to zero on a cosine; null: 0.02, rotate 0.1."
    )
    margin: float | None = Field(None, gt=0, description="γ of transe and rotate; null: 1 and 3.")
    adversarial_temperature: float = Field(1.0, ge=0, description="How much near negatives weigh more (rotate).")
    held_out_share: float = Field(0.02, ge=0, lt=0.5, description="Triples kept to judge link prediction by.")
    num_threads: int = Field(1, ge=1, description="torch threads; another number changes the last bits.")
    aggregator: Literal["bi_interaction", "sum"] = Field(
        "bi_interaction", description="How kgat joins an entity with its neighbourhood."
    )
    num_hops: int = Field(1, ge=1, le=2, description="How far kgat looks.")

    @field_validator("item_vectors", mode="before")
    @classmethod
    def _a_path_is_short_for_its_section(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {name: {"path": own} if isinstance(own, str | Path) else own for name, own in content.items()}

    @model_validator(mode="after")
    def _blocks_have_names_of_their_own(self) -> KnowledgeConfig:
        taken = sorted(set(self.item_vectors) & {TEXT, GRAPH, *RESERVED_BLOCKS})
        if taken:
            raise ValueError(f"item_vectors cannot be called {taken[0]}, the name of another part of an item")
        return self

    @model_validator(mode="after")
    def _complex_numbers_are_pairs(self) -> KnowledgeConfig:
        if self.method == "rotate" and self.graph_dim % 2:
            raise ValueError(f"knowledge.method rotate needs an even graph_dim, got {self.graph_dim}")
        return self


class FeatureConfig(Section):
    """Aggregates, interest vectors and the item prior."""

    interest_shrinkage: float = Field(10.0, ge=0, description="κ of n/(n+κ): short histories count less.")
    prior_shrinkage: float = Field(10.0, ge=0, description="Pseudo-rows that pull an item's mean to the overall mean.")
    num_prior_folds: int = Field(5, ge=2, description="Folds of the out-of-fold item prior.")
    history_length: int = Field(50, ge=1, description="Recent liked items kept per user.")
    min_category_count: int = Field(1, ge=1, description="Rarer train categories become unseen (index 0).")
