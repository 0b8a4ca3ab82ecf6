"""Section of the recommenders that rank a whole catalogue."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from lorefuse.config.base import Section

MemberName = Literal["popularity", "item_knn", "user_knn", "ease", "content", "two_tower", "light_gcn", "sasrec"]
RecommenderName = Literal[MemberName, "hybrid"]


class EpochsConfig(Section):
    """What the recommenders that train in epochs share."""

    embedding_dim: int = Field(64, ge=1, le=1024, description="Dimensions D in which users meet items.")
    text_dim: int = Field(
        64, ge=0, description="Leading principal components of the text that enter; 0: no text, ids alone."
    )
    batch_size: int = Field(1024, ge=2, description="Likes per step.")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Adam's step size.")
    max_epochs: int = Field(30, ge=1, description="Upper bound on passes over the likes.")
    patience: int = Field(3, ge=1, description="Epochs without a better validation NDCG before stopping.")
    num_threads: int = Field(2, ge=1, description="torch threads.")


class TwoTowerConfig(EpochsConfig):
    """A user tower, an item tower, and the cosine between them."""

    temperature: float = Field(0.1, gt=0, description="Cosines are divided by this: lower is sharper.")
    id_dropout: float = Field(0.3, ge=0, lt=1, description="Share of ids replaced by the unseen index in a step.")
    history_length: int = Field(20, ge=1, description="Earlier likes that the user tower reads in training.")
    history_half_life: float | None = Field(
        2.0, gt=0, description="After how many later likes a like counts half in training; null: all the same."
    )
    num_uniform_negatives: int = Field(1024, ge=0, description="Negatives drawn evenly, besides those of the batch.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay of all weights.")


class LightGCNConfig(EpochsConfig):
    """Embeddings smoothed over the graph of likes."""

    num_layers: int = Field(3, ge=0, le=8, description="Steps of propagation.")
    text_dim: int = Field(0, ge=0, description="Leading text components added to the items' layer 0; 0: ids alone.")
    l2: float = Field(1e-4, ge=0, description="Penalty of the layer-0 embeddings of a batch.")
    batch_size: int = Field(8192, ge=1, description="Likes per step; each costs one propagation over the graph.")
    learning_rate: float = Field(1e-2, gt=0, le=1, description="Adam's step size.")
    max_epochs: int = Field(100, ge=1, description="Upper bound on passes over the likes.")
    patience: int = Field(10, ge=1, description="Epochs without a better validation NDCG before stopping.")


class SASRecConfig(EpochsConfig):
    """A transformer over the user's latest likes, in their order."""

    item_mode: Literal["ids", "text_init", "fused"] = Field(
        "fused",
        description="Where an item's vector comes from: its id; its id, which starts at its text; or id + map of text "
        "and graph, which ranks items without a like too.",
    )
    history_length: int = Field(50, ge=1, le=1024, description="Latest likes that are read.")
    num_layers: int = Field(2, ge=1, le=16, description="Transformer blocks.")
    num_heads: int = Field(2, ge=1, description="Attention heads; a divisor of embedding_dim.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of activations dropped in training.")
    id_dropout: float = Field(0.1, ge=0, lt=1, description="fused: share of ids replaced by the unseen one in a step.")
    loss: Literal["ce", "sampled_ce", "bce"] = Field(
        "ce", description="Softmax over all items, over those of the batch and drawn ones, or pairs as in the paper."
    )
    all_items_up_to: int = Field(
        50_000, ge=1, le=200_000, description="Liked items above which ce becomes sampled_ce: memory and time."
    )
    num_negatives: int = Field(
        256, ge=1, description="Items drawn evenly: for a part of a step with sampled_ce, for a like with bce."
    )
    calibration: float = Field(
        0.75, ge=0, le=1, description="bce: t of gSASRec against overconfidence; 0: the paper's plain loss."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of all weights.")
    batch_size: int = Field(256, ge=1, description="Users per step, each with all of their likes.")
    max_epochs: int = Field(50, ge=1, description="Upper bound on passes over the users.")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.embedding_dim % self.num_heads:
            raise ValueError(f"num_heads must divide embedding_dim {self.embedding_dim}, got {self.num_heads}")
        return self


class RetrievalConfig(Section):
    """Which recommenders are judged, and how."""

    recommenders: tuple[RecommenderName, ...] = Field(
        ("popularity", "item_knn", "user_knn", "ease", "content", "hybrid", "two_tower", "light_gcn"),
        min_length=1,
        description="Recommenders to judge.",
    )
    k: int = Field(10, ge=1, description="Cut of NDCG, hit rate, MRR, coverage and novelty.")
    recall_k: int = Field(20, ge=1, description="Cut of recall.")
    num_seeds: int = Field(3, ge=1, description="Trainings of each recommender that draws anything.")
    num_bootstraps: int = Field(200, ge=10, description="Resamples of users for confidence intervals.")
    recency_half_life: float | None = Field(
        2.0, gt=0, description="After how many later likes a like counts half when a user is served; null: never."
    )
    popularity_half_life: float | None = Field(
        None, gt=0, description="Days after which a like counts half for popularity; null: never."
    )
    num_neighbours: int = Field(500, ge=1, description="Neighbours of ItemKNN and UserKNN.")
    shrinkage: float = Field(20.0, ge=0, description="Pulls similarities with few common likes to 0.")
    ease_l2: float = Field(100.0, gt=0, description="λ of EASE.")
    content_centre: bool = Field(True, description="Remove what all text vectors share before the cosine.")
    hybrid_grid: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        description="Weights tried on validation for each member of the hybrid but the first; empty: as given.",
    )
    hybrid_weights: dict[MemberName, float] = Field(
        {"ease": 1.0, "content": 1.0}, min_length=2, description="Members of the hybrid and the weight of each."
    )
    new_item_neighbours: int = Field(
        5, ge=0, description="Nearest items by text whose best score a new item takes over in the hybrid; 0: none."
    )
    new_item_strength: float = Field(
        0.4, ge=0, le=1, description="Share of that score: more finds more new items, less keeps known ones on top."
    )
    fusion: Literal["z_score", "reciprocal_rank"] = Field("z_score", description="How the hybrid joins its members.")
    two_tower: TwoTowerConfig = TwoTowerConfig()
    light_gcn: LightGCNConfig = LightGCNConfig()
    sasrec: SASRecConfig = SASRecConfig()
