"""How good lists are: full rankings of what a user has not had, known and new items apart, beside simple recommenders.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``K`` ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.lists.moments import Moments
from lorefuse.lists.order import RankRows
from lorefuse.lists.two_stage import TwoStage
from lorefuse.progress import track
from lorefuse.retrieval.evaluate import interval
from lorefuse.retrieval.metrics import Array, coverage, novelty, self_information, user_metrics

Lists = NDArray[np.int64]
SUBSETS = ("warm", "cold", "all")


def make_lists(stages: TwoStage, moments: Moments, rank: RankRows | None, length: int, who: str) -> Lists:
    """Return the list that each user is shown, (U, length); -1 where there is nothing left to show.

    Args:
        stages: Both stages.
        moments: The users.
        rank: The ranker's scores; None where it is not asked.
        length: Ranks.
        who: What the progress bar calls it.
    """
    result = np.full((len(moments), length), -1, np.int64)
    for number in track(range(len(moments)), f"Making lists: {who}"):
        rows, scores = stages.find(moments.past(number), moments.hidden[number], moments.user_vectors(number))
        ranked = rank(number, rows) if rank is not None and stages.asks_ranker and len(rows) else None
        best, _ = stages.order(rows, scores, ranked)
        result[number, : min(length, len(best))] = best[:length]
    return result


def judge(lists: Lists, moments: Moments, k: int, recall_k: int, num_bootstraps: int) -> dict[str, Any]:
    """Return what lists are worth.

    Args:
        lists: (U, at least recall_k).
        moments: Whose lists they are.
        k: Cut of NDCG, MRR and hit rate, and of coverage and novelty.
        recall_k: Cut of recall.
        num_bootstraps: Resamples of users.

    Returns:
        ``<metric>_<subset>`` → mean, low, high and num_users; coverage and novelty (bits).
    """
    values = user_values(lists, moments, k, recall_k)
    estimates: dict[str, Any] = {}
    for name, value_U in values.items():
        known = value_U[np.isfinite(value_U)]
        low, high = interval(known, num_bootstraps)
        mean = float(known.mean()) if len(known) else float("nan")
        estimates[name] = {"mean": mean, "low": low, "high": high, "num_users": len(known)}
    train_UN = moments.data.train
    count_N = np.bincount(train_UN.indices, minlength=train_UN.shape[1])
    return {
        "metrics": estimates,
        "coverage": coverage(lists[:, :k], train_UN.shape[1]),
        "novelty": novelty(lists[:, :k], self_information(count_N, train_UN.shape[0])),
    }


def user_values(lists: Lists, moments: Moments, k: int, recall_k: int) -> dict[str, Array]:
    """Return each user's NDCG, MRR, hit rate and recall by subset, (U,) each; NaN where nothing is to be found."""
    values: dict[str, Array] = {}
    for subset in SUBSETS:
        relevant = getattr(moments, subset)
        at_k, at_recall = (user_metrics(lists, relevant, cut) for cut in (k, recall_k))
        values |= {f"{metric}_at_{k}_{subset}": at_k[metric] for metric in ("ndcg", "mrr", "hit_rate")}
        values[f"recall_at_{recall_k}_{subset}"] = at_recall["recall"]
    return values


def gains(mine: Mapping[str, Array], other: Mapping[str, Array], num_bootstraps: int) -> dict[str, dict[str, float]]:
    """Return mine minus the other's, each metric with its paired 95 % interval over users.

    Args:
        mine: From `user_values`.
        other: Of the same users.
        num_bootstraps: Resamples of users.
    """
    result = {}
    for name, value_U in mine.items():
        difference = value_U - other[name]
        difference = difference[np.isfinite(difference)]
        low, high = interval(difference, num_bootstraps)
        mean = float(difference.mean()) if len(difference) else float("nan")
        result[name] = {"mean": mean, "low": low, "high": high}
    return result
