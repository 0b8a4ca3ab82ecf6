"""Sections of the registry and of the served models."""

from __future__ import annotations

from pydantic import Field

from lorefuse.config.base import Section


class RegistryConfig(Section):
    """MLflow names and the promotion gate."""

    experiment: str = Field("lorefuse", min_length=1, description="MLflow experiment.")
    model_name: str = Field("lorefuse-ranker", min_length=1, description="Registered model.")
    gate_metric: str = Field("auc_warm", description="Test metric compared with the champion's.")
    require_beats_shuffled: bool = Field(
        False, description="Refuse a model that does not beat its own shuffled-knowledge control by this metric."
    )


class ServingConfig(Section):
    """What the served models allow."""

    max_k: int = Field(100, ge=1, le=1000, description="Most items a request may ask for.")
    max_exclude: int = Field(1024, ge=1, description="Most seen items excluded per request.")
    newcomer_pool: float | None = Field(
        1.5,
        ge=1,
        description="Somebody unknown gets the best k of this many times k popular items; null: of all items.",
    )
    embed: bool = Field(
        False, description="Carry the text encoder (minilm: 90 MB a version), so that new items are scored from words."
    )
    num_reference_rows: int = Field(256, ge=8, description="Rows whose scores travel with the version.")
