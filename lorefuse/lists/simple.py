"""The simple recommenders that a served list must beat: popularity, ItemKNN, EASE, each at its best on validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import csr_array

from lorefuse.config.retrieval import RetrievalConfig
from lorefuse.errors import UsageError
from lorefuse.lists.judge import Lists
from lorefuse.lists.moments import Moments
from lorefuse.retrieval.ease import Ease
from lorefuse.retrieval.metrics import user_metrics
from lorefuse.retrieval.neighbours import ItemKNN
from lorefuse.retrieval.popularity import Popularity
from lorefuse.retrieval.recommender import Recommender, recommend

HALF_LIVES = (2.0, 10.0, 30.0, None)
L2_FACTORS, MAX_TUNED_ITEMS = (0.5, 1.0, 2.0, 4.0), 4000
"""Multiples of `retrieval.ease_l2` that are tried; of larger catalogues the first fit is the only one."""
MAX_TUNING_USERS = 2000
K = 10


def simple_lists(
    validation: Moments, test: Moments, config: RetrievalConfig, length: int
) -> Iterator[tuple[str, Lists, str]]:
    """Yield name, lists of the test users and the settings of each simple recommender.

    Half-lives of the past, and λ of EASE, are those with the best NDCG@10 of known items on validation.

    Args:
        validation: Users that choose.
        test: Users that are shown lists.
        config: The recommenders' other settings.
        length: Ranks of a list.
    """
    for name, variants in _variants(config, validation.data.train).items():
        tuning = validation.thinned(MAX_TUNING_USERS)
        best: tuple[float, Recommender, float | None, str] | None = None
        try:
            for text, make in variants:
                recommender = make().fit(validation.data.train, validation.data.side)
                for half_life in HALF_LIVES if name != "popularity" else (None,):
                    lists = _lists(recommender, tuning, half_life, K)
                    judged = np.diff(tuning.warm.indptr) > 0
                    ndcg = float(user_metrics(lists[judged], tuning.warm[judged], K)["ndcg"].mean())
                    if best is None or ndcg > best[0]:
                        best = ndcg, recommender, half_life, text
        except UsageError:  # EASE of a catalogue that is too large for it
            continue
        assert best is not None
        _, recommender, half_life, text = best
        settings = ", ".join(filter(None, [text, f"half-life {half_life:g}" if half_life else ""]))
        yield name, _lists(recommender, test, half_life, length), settings


def _variants(config: RetrievalConfig, train_UN: csr_array) -> dict[str, list[tuple[str, Callable[[], Recommender]]]]:
    num_liked = len(np.unique(train_UN.indices))
    factors = L2_FACTORS if num_liked <= MAX_TUNED_ITEMS else (1.0,)
    penalties = [config.ease_l2 * factor for factor in factors]

    def ease(l2: float) -> Callable[[], Recommender]:
        return lambda: Ease(l2)

    return {
        "popularity": [("", lambda: Popularity(None))],
        "item_knn": [("", lambda: ItemKNN(config.num_neighbours, config.shrinkage))],
        "ease": [(f"λ {l2:g}", ease(l2)) for l2 in penalties],
    }


def _lists(recommender: Recommender, moments: Moments, half_life: float | None, length: int) -> Lists:
    weights = history_matrix(moments, half_life)
    return recommend(recommender, moments.users, length, seen_UN=moments.data.seen, history_UN=weights)


def history_matrix(moments: Moments, half_life: float | None) -> csr_array:
    """Return the users' pasts as weights, 0.5^(number of later likes / half-life), (all users, N)."""
    shape = moments.data.train.shape
    lengths = [len(rows) for rows in moments.liked]
    ages = np.concatenate([np.arange(length) for length in lengths]) if lengths else np.zeros(0)
    weights = np.ones(len(ages)) if half_life is None else 0.5 ** (ages / half_life)
    columns = np.concatenate(moments.liked) if lengths else np.zeros(0, np.int64)
    return csr_array((weights.astype(np.float32), (np.repeat(moments.users, lengths), columns)), shape=shape)
