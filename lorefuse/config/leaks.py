"""Section of the leak tests (`lorefuse leaks`, and the gate where it is to bound them)."""

from __future__ import annotations

from pydantic import Field

from lorefuse.config.base import Section


class LeaksConfig(Section):
    """What is measured of what a ranker gives away about the rows it was trained on."""

    num_models: int = Field(
        8,
        ge=4,
        le=256,
        description="Models trained on random halves of the train rows; each is attacked by the others.",
    )
    num_rows: int = Field(100_000, ge=100, description="Train rows that attacks look at, at most.")
    num_users: int = Field(2000, ge=10, description="Users whose embeddings are looked at, at most.")
    num_bootstraps: int = Field(200, ge=10, description="Resamples of users for intervals.")
    seed: int = Field(0, ge=0, description="Of the halves.")
