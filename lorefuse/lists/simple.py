"""The simple recommenders that a served list must beat: popularity, ItemKNN, EASE, each at its best on validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig
from lorefuse.core.progress import track
from lorefuse.core.schema import Split
from lorefuse.lists.judge import Lists
from lorefuse.retrieval.data import RetrievalData, from_training_set
from lorefuse.retrieval.ease import Ease
from lorefuse.retrieval.evaluate import ndcg_of
from lorefuse.retrieval.neighbours import ItemKNN
from lorefuse.retrieval.popularity import Popularity
from lorefuse.retrieval.recommender import Recommender, recommend
from lorefuse.training_set.arrays import TrainingSet

HALF_LIVES = (2.0, 10.0, 30.0, None)
L2_FACTORS, MAX_TUNED_ITEMS = (0.5, 1.0, 2.0, 4.0), 4000
"""Multiples of `retrieval.ease_l2` that are tried; of larger catalogues the first fit is the only one."""
MAX_TUNING_USERS, K = 2000, 10
Variants = list[tuple[str, Callable[[], Recommender]]]


def simple_lists(
    training_set: TrainingSet, users: NDArray[np.int64], config: PipelineConfig, threshold: float, length: int
) -> Iterator[tuple[str, Lists, str]]:
    """Yield name, lists of test users and the chosen settings of each simple recommender.

    Half-lives of the past, which is read whole, and λ of EASE are those with the best NDCG@10 on validation.

    Args:
        training_set: Rows of all parts.
        users: Test users that are shown lists.
        config: The recommenders' other settings.
        threshold: Label from which a row is a like.
        length: Ranks of a list.
    """

    def data_of(part: Split) -> dict[float | None, RetrievalData]:
        return {
            half_life: from_training_set(training_set, threshold=threshold, judged=part, recency_half_life=half_life)
            for half_life in HALF_LIVES
        }

    validation, test = data_of(Split.VALIDATION), data_of(Split.TEST)
    for name, variants in track(list(_variants(config, validation[None]).items()), "Ranking with simple recommenders"):
        best: tuple[float, Recommender, float | None, str] | None = None
        for text, make in variants:
            recommender = make().fit(validation[None].train, validation[None].side)
            for half_life in HALF_LIVES if name != "popularity" else (None,):
                ndcg = ndcg_of(validation[half_life], K, MAX_TUNING_USERS)(recommender)
                if best is None or ndcg > best[0]:
                    best = ndcg, recommender, half_life, text
        assert best is not None
        _, recommender, half_life, text = best
        judged = test[half_life]
        shown = recommend(recommender, users, length, seen_UN=judged.seen, history_UN=judged.history)
        yield name, shown, ", ".join(filter(None, [text, f"half-life {half_life:g}" if half_life else ""]))


def _variants(config: PipelineConfig, data: RetrievalData) -> dict[str, Variants]:
    section, num_liked = config.retrieval, len(np.unique(data.train.indices))

    def ease(l2: float) -> Callable[[], Recommender]:
        return lambda: Ease(l2)

    variants: dict[str, Variants] = {
        "popularity": [("", lambda: Popularity(None))],
        "item_knn": [("", lambda: ItemKNN(section.num_neighbours, section.shrinkage))],
    }
    if num_liked <= config.candidates.max_ease_items:
        factors = L2_FACTORS if num_liked <= MAX_TUNED_ITEMS else (1.0,)
        variants["ease"] = [(f"λ {section.ease_l2 * f:g}", ease(section.ease_l2 * f)) for f in factors]
    return variants
