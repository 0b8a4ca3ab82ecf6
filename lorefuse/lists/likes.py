"""What a trained recommender is fitted on to become a view: an arm's train likes, with validation likes to stop by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_array

from lorefuse.config.retrieval import EpochsConfig
from lorefuse.core.schema import Split
from lorefuse.lists.near import Vectors
from lorefuse.retrieval.data import from_training_set
from lorefuse.retrieval.evaluate import ndcg_of
from lorefuse.retrieval.recommender import Recommender, Side
from lorefuse.training_set.arrays import TrainingSet

MAX_VALIDATION_USERS, K = 2000, 10
Config = TypeVar("Config", bound=EpochsConfig)


@dataclass(frozen=True)
class Likes:
    """Train likes of an arm.

    Attributes:
        train: Likes of train, (U, N).
        side: Times, fields, graph, and the arm's full texts.
        ndcg: Judges a recommender by validation likes, each user's past weighted by age.
    """

    train: csr_array
    side: Side
    ndcg: Callable[[Recommender], float]


def likes_of(training_set: TrainingSet, text: Vectors | None, threshold: float, half_life: float | None) -> Likes:
    """Return an arm's likes.

    Args:
        training_set: The arm's rows, fields and graph.
        text: What the arm knows of the items' texts, (N, ·); None: nothing.
        threshold: Label from which a row is a like.
        half_life: After how many later likes a like counts half where the recommender is judged; None: all the same.
    """
    data = from_training_set(training_set, threshold=threshold, judged=Split.VALIDATION, recency_half_life=half_life)
    return Likes(data.train, data.side.with_text(text), ndcg_of(data, K, MAX_VALIDATION_USERS))


def with_directions(config: Config, likes: Likes) -> Config:
    """Return the config with no more text components than the liked items' texts have: few items have few."""
    text = likes.side.text
    if text is None:
        return config
    num_directions = len(np.unique(text[np.unique(likes.train.indices)], axis=0)) - 1
    return config.model_copy(update={"text_dim": max(0, min(config.text_dim, num_directions))})
