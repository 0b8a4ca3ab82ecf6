"""Section of drift and decay: when new data counts as different, and when a model is trained again."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lorefuse.config.base import Section


class DriftConfig(Section):
    """Thresholds of a refresh. A difference counts where it is both large and more than chance would give."""

    num_bins: int = Field(10, ge=2, le=100, description="Bins of a numeric feature, of equal reference counts.")
    alpha: float = Field(0.01, gt=0, lt=0.5, description="Chance of a false alarm per feature.")
    psi: float = Field(0.2, ge=0, description="A feature's population stability index that counts as large.")
    ks: float = Field(0.1, ge=0, le=1, description="A feature's Kolmogorov-Smirnov distance that counts as large.")
    centroid: float = Field(0.05, ge=0, le=2, description="Cosine distance between item centroids that is large.")
    num_bootstraps: int = Field(200, ge=20, description="Resamples of the reference behind a centroid's spread.")
    drifted_share: float = Field(0.3, gt=0, le=1, description="Share of drifted features that is drift as a whole.")
    max_unseen_users: float = Field(0.5, ge=0, le=1, description="Share of rows by users the model does not know.")
    max_unseen_items: float = Field(0.3, ge=0, le=1, description="Share of rows on items the model does not know.")
    max_auc_drop: float = Field(0.02, ge=0, le=1, description="Fall of AUC below the recorded test AUC: decay.")
    max_gauc_drop: float = Field(0.02, ge=0, le=1, description="Fall of GAUC below the recorded test GAUC: decay.")
    max_rmse_rise: float = Field(0.05, ge=0, description="Rise of RMSE, as a share of the recorded one: decay.")
    min_rows: int = Field(200, ge=1, description="Fewer new rows than this decide nothing.")
    retrain_on: tuple[Literal["drift", "decay"], ...] = Field(
        ("drift", "decay"), description="What makes a refresh train again."
    )
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")
