"""Hyper-parameters that a study searches, and how they enter the configuration."""

from __future__ import annotations

from typing import Any

from lorefuse.config import ModelConfig, PipelineConfig, TrainingConfig
from lorefuse.config.models import model_class


def defaults(config: PipelineConfig) -> dict[str, float]:
    """Return the configured values of the searched hyper-parameters: the first trial of every study."""
    training = {name: getattr(config.training, name) for name in ("learning_rate", "weight_decay", "embedding_l2")}
    # A family without an MLP has no dropout; 0 stands in, which `apply` leaves out again.
    return training | {name: getattr(config.model, name, 0.0) for name in ("dropout", "id_dropout")}


def apply(config: PipelineConfig, params: dict[str, Any]) -> tuple[ModelConfig, TrainingConfig]:
    """Return the configured model and training with some hyper-parameters replaced.

    Another family takes over what it shares with the configured one.
    """
    training = {name: value for name, value in params.items() if name in TrainingConfig.model_fields}
    kind = model_class(params.get("family", config.model.family))
    content = {**config.model.model_dump(), **params}
    known = {name: value for name, value in content.items() if name in kind.model_fields and name != "family"}
    model: ModelConfig = kind(**known)
    return model, config.training.model_copy(update=training)
