"""The data chain in one call: raw files to a training set, by the pipelines' own steps."""

from __future__ import annotations

from pathlib import Path

from lorefuse.config import PipelineConfig
from lorefuse.steps.common import dump_config
from lorefuse.steps.data import ingest, split
from lorefuse.steps.feature_store import features, materialize, training_set
from lorefuse.steps.knowledge import embed, item_vectors


def prepare(config: PipelineConfig, strategy: str | None = None) -> dict[str, Path]:
    """Return the folders of a configuration up to the training set; each is made, or found finished.

    Args:
        config: What they are made by.
        strategy: Of the split; None: the configured one.

    Returns:
        ``dataset``, ``embeddings``, ``split``, ``item_vectors``, ``feature_data``, ``store`` and ``training_set``.
    """
    content = dump_config(config)
    made: dict[str, Path] = {"dataset": ingest(content).path}
    made["embeddings"] = embed(content, made["dataset"]).path
    made["split"] = split(content, strategy or config.split.strategy, made["dataset"]).path
    made["item_vectors"] = item_vectors(content, made["dataset"], made["split"], made["embeddings"]).path
    known = {name: made[name] for name in ("dataset", "split", "item_vectors")}
    made["feature_data"] = features(content, **known).path
    made["store"] = materialize(content, made["feature_data"]).path
    made["training_set"] = training_set(content, **known, feature_data=made["feature_data"], store=made["store"]).path
    return made
