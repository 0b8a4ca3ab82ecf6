"""The data chain that every pipeline begins with: item vectors, features, the feature store and the training set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.features import features
from components.item_vectors import item_vectors
from components.materialize import materialize
from components.training_set import training_set


@dataclass(frozen=True)
class Prepared:
    """What is fitted on the train rows of one split: artifacts of a pipeline that is being made.

    Attributes:
        item_vectors: Vectors of every item.
        feature_data: Sources of the feature views.
        store: Feature store.
        training_set: Rows joined with the features of their own past; None where it was not asked for.
    """

    item_vectors: Any
    feature_data: Any
    store: Any
    training_set: Any = None


def prepare(config: Any, dataset: Any, split: Any, embeddings: Any, *, join: bool = True) -> Prepared:
    """Add the tasks to the pipeline that is being made.

    Args:
        config: The pipeline's parameter.
        dataset: The dataset.
        split: Its parts.
        embeddings: Text vectors.
        join: Also make the training set.
    """
    vectors = item_vectors(config=config, dataset=dataset, split=split, embeddings=embeddings).outputs["item_vectors"]
    folders = {"config": config, "dataset": dataset, "split": split, "item_vectors": vectors}
    source = features(**folders).outputs["feature_data"]
    store = materialize(config=config, feature_data=source).outputs["store"]
    if not join:
        return Prepared(vectors, source, store)
    rows = training_set(**folders, feature_data=source, store=store).outputs["training_set"]
    return Prepared(vectors, source, store, rows)
