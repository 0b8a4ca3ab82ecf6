"""How good lists are: full rankings of what a user has not had, known and new items apart, beside simple recommenders.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``K`` ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.progress import track
from lorefuse.lists.moments import Moments
from lorefuse.lists.order import RankRows
from lorefuse.lists.stage_files import SERVED
from lorefuse.lists.two_stage import TwoStage
from lorefuse.retrieval.evaluate import interval
from lorefuse.retrieval.metrics import Array, coverage, novelty, self_information, user_metrics
from lorefuse.training.compare import MIN_USERS
from lorefuse.training.summary import verdict

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


def compare(
    lists: Mapping[str, Sequence[Lists]], moments: Moments, k: int, recall_k: int, num_bootstraps: int
) -> dict[str, Any]:
    """Return what lists are worth, and by how much the served one is ahead of each other.

    Args:
        lists: By name, `SERVED` among them: those that each training shows, (U, at least recall_k) each.
        moments: Whose lists they are.
        k: Cut of NDCG, MRR and hit rate, and of coverage and novelty.
        recall_k: Cut of recall.
        num_bootstraps: Resamples of users.

    Returns:
        ``k``, ``recall_k`` and ``num_users``; ``lists``: by name the figures of `judge`; ``gains``: by name the served
        list minus it, each metric with its paired interval; ``verdicts``: by subset, NDCG against no knowledge in
        words, where that list is there. A user's value is a mean over trainings.
    """
    values = {
        name: [user_values(shown, moments, k, recall_k) for shown in trainings] for name, trainings in lists.items()
    }
    means = {
        name: {metric: np.mean([one[metric] for one in seeds], axis=0) for metric in seeds[0]}
        for name, seeds in values.items()
    }
    content: dict[str, Any] = {
        "k": k,
        "recall_k": recall_k,
        "num_users": len(moments),
        "lists": {name: judge(shown, values[name], moments, k, num_bootstraps) for name, shown in lists.items()},
        "gains": {name: gains(means[SERVED], other, num_bootstraps) for name, other in means.items() if name != SERVED},
    }
    against = content["gains"].get("none", {})
    names = {subset: f"ndcg_at_{k}_{subset}" for subset in SUBSETS}
    content["verdicts"] = {subset: verdict(against[name]) for subset, name in names.items() if name in against}
    return content


def judge(
    lists: Sequence[Lists], values: Sequence[Mapping[str, Array]], moments: Moments, k: int, num_bootstraps: int
) -> dict[str, Any]:
    """Return what a list is worth.

    Args:
        lists: Of each training, (U, at least k).
        values: From `user_values`, of each training.
        moments: Whose lists they are.
        k: Cut of coverage and novelty.
        num_bootstraps: Resamples of users.

    Returns:
        metrics: ``<metric>_<subset>`` → mean over trainings and users, low, high and num_users, and of several
        trainings ``std``, the deviation over them, and ``values``, the mean of each; coverage and novelty (bits), means
        over trainings.
    """
    estimates: dict[str, Any] = {}
    for name in values[0]:
        value_SU = np.stack([one[name] for one in values])
        value_SU = value_SU[:, np.isfinite(value_SU).all(axis=0)]
        value_U = value_SU.mean(axis=0)
        low, high = interval(value_U, num_bootstraps)
        mean = float(value_U.mean()) if len(value_U) else float("nan")
        estimates[name] = {"mean": mean, "low": low, "high": high, "num_users": len(value_U)}
        if len(value_SU) > 1 and len(value_U):
            of_seed = value_SU.mean(axis=1)
            estimates[name] |= {"std": float(of_seed.std(ddof=1)), "values": of_seed.tolist()}
    train_UN = moments.data.train
    count_N = np.bincount(train_UN.indices, minlength=train_UN.shape[1])
    information_N = self_information(count_N, train_UN.shape[0])
    return {
        "metrics": estimates,
        "coverage": float(np.mean([coverage(shown[:, :k], train_UN.shape[1]) for shown in lists])),
        "novelty": float(np.mean([novelty(shown[:, :k], information_N) for shown in lists])),
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
    """Return mine minus the other's, each metric with its paired 95 % interval over users (NaN of too few).

    Args:
        mine: From `user_values`.
        other: Of the same users.
        num_bootstraps: Resamples of users.
    """
    result = {}
    for name, value_U in mine.items():
        difference = value_U - other[name]
        difference = difference[np.isfinite(difference)]
        is_enough = len(difference) >= MIN_USERS
        low, high = interval(difference, num_bootstraps) if is_enough else (float("nan"), float("nan"))
        mean = float(difference.mean()) if len(difference) else float("nan")
        result[name] = {"mean": mean, "low": low, "high": high}
    return result
