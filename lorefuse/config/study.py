"""The section of a study: which arms, how many seeds, which buckets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lorefuse.config.base import Section
from lorefuse.config.learning import Arm

BaselineName = Literal["sklearn_logistic", "sklearn_fm_sketch"]
"""What each is stands at `training.linear_baselines`."""


class StudyConfig(Section):
    """The honesty harness (`lorefuse study`)."""

    arms: tuple[Arm, ...] = Field(
        ("real", "none", "categories", "shuffled", "random", "text_only"),
        min_length=2,
        description="Knowledge given to each arm.",
    )
    baselines: tuple[BaselineName, ...] = Field(
        (), description="scikit-learn's linear models to set beside the variants; the sketch approximates an FM."
    )
    num_seeds: int = Field(5, ge=1, description="Trainings per variant and arm.")
    num_bootstraps: int = Field(500, ge=10, description="Resamples of users for each interval.")
    ndcg_k: int = Field(10, ge=1, description="Cut of NDCG, coverage and novelty.")
    recall_k: int = Field(20, ge=1, description="Cut of Recall.")
    head_share: float = Field(0.5, gt=0, lt=1, description="Most popular items with this share of rows are head.")
    tail_share: float = Field(0.2, gt=0, lt=1, description="Least popular items with this share of rows are tail.")
    num_catalogue_users: int = Field(200, ge=1, description="Users whose whole catalogue is ranked.")

    @model_validator(mode="after")
    def _fits(self) -> StudyConfig:
        if self.head_share + self.tail_share >= 1:
            raise ValueError("head_share + tail_share must leave a torso (sum below 1)")
        if "real" not in self.arms:
            raise ValueError("arms must hold `real`, which every other arm is compared with")
        return self
