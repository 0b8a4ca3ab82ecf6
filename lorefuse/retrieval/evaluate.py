"""Judge any recommender on a split: warm and cold likes apart, each ranked against the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.retrieval.data import RetrievalData
from lorefuse.retrieval.metrics import Array, coverage, novelty, self_information, user_metrics
from lorefuse.retrieval.recommender import Recommender, recommend

MakeRecommender = Callable[[int], Recommender]
"""Seed → a fresh recommender."""


@dataclass(frozen=True)
class Estimate:
    """A mean over users, and how far it could have come out by chance.

    Attributes:
        mean: Over users and seeds; NaN where no user is judged.
        low: 2.5 % quantile over resamples of users.
        high: 97.5 % quantile.
        num_users: Users judged.
        per_seed: The mean of each seed.
    """

    mean: float
    low: float
    high: float
    num_users: int
    per_seed: tuple[float, ...]


@dataclass(frozen=True)
class RetrievalReport:
    """How well a recommender ranks.

    Attributes:
        estimates: ``<metric>_<warm or cold>`` → estimate, e.g. ``ndcg_at_10_warm``.
        values: ``<metric>_<warm or cold>`` → (U,) each user's value, a mean over seeds; NaN for users not judged.
        coverage: Share of the catalogue shown to anyone in the first k, a mean over seeds.
        novelty: Mean self-information of what is shown in the first k, in bits, a mean over seeds.
    """

    estimates: dict[str, Estimate]
    values: dict[str, Array]
    coverage: float
    novelty: float


def evaluate_retrieval(
    make: MakeRecommender,
    data: RetrievalData,
    *,
    seeds: tuple[int, ...] = (0,),
    k: int = 10,
    recall_k: int = 20,
    num_bootstraps: int = 200,
    validation: RetrievalData | None = None,
) -> RetrievalReport:
    """Fit a recommender with each seed and judge its ranking of the whole catalogue.

    Cold likes are ranked against all items, warm ones too: nobody knows beforehand which kind a user will like next.
    Users with several likes in the judged part count once; what was seen before is left out of the ranking.

    Args:
        make: Seed → a fresh recommender. One that draws nothing needs one seed.
        data: The split.
        seeds: Of fitting.
        k: Cut of NDCG, hit rate, MRR, coverage and novelty.
        recall_k: Cut of recall.
        num_bootstraps: Resamples of users for the intervals.
        validation: The same split with its validation part judged, for recommenders that stop early.

    Returns:
        Means with intervals, and each user's values for comparisons.

    Raises:
        UsageError: The data lacks what the recommender reads.
        DivergedError: A training whose loss is no longer finite.
    """
    judged = np.flatnonzero(np.diff(data.warm.indptr) + np.diff(data.cold.indptr))
    validate = ndcg_of(validation, k) if validation is not None else None
    results = [
        _judge_once(make(seed).fit(data.train, data.side, validate), data, judged, k=k, recall_k=recall_k)
        for seed in seeds
    ]
    stacked = {metric: np.stack([values[metric] for values, _, _ in results]) for metric in results[0][0]}
    values = {metric: np.full(data.train.shape[0], np.nan) for metric in stacked}
    for metric, value_SJ in stacked.items():
        values[metric][judged] = value_SJ.mean(axis=0)
    return RetrievalReport(
        estimates={metric: _estimate(value_SJ, num_bootstraps) for metric, value_SJ in stacked.items()},
        values=values,
        coverage=float(np.mean([share for _, share, _ in results])),
        novelty=float(np.mean([bits for _, _, bits in results])),
    )


def _judge_once(
    recommender: Recommender, data: RetrievalData, judged: NDArray[np.int64], *, k: int, recall_k: int
) -> tuple[dict[str, Array], float, float]:
    """Return the judged users' values by metric, coverage and novelty of a fitted recommender."""
    num_users, num_items = data.train.shape
    ranked = recommend(
        recommender,
        judged,
        max(k, recall_k),
        seen_UN=data.seen,
        history_UN=data.history,
        description=f"Ranking with {type(recommender).__name__}",
    )
    values: dict[str, Array] = {}
    for subset, relevant_UN in (("warm", data.warm), ("cold", data.cold)):
        at_k, at_recall = (user_metrics(ranked, relevant_UN[judged], cut) for cut in (k, recall_k))
        values |= {f"{metric}_at_{k}_{subset}": at_k[metric] for metric in ("ndcg", "hit_rate", "mrr")}
        values[f"recall_at_{recall_k}_{subset}"] = at_recall["recall"]
    information_N = self_information(np.bincount(data.train.indices, minlength=num_items), num_users)
    return values, coverage(ranked[:, :k], num_items), novelty(ranked[:, :k], information_N)


def ndcg_of(data: RetrievalData, k: int, max_users: int = 4000) -> Callable[[Recommender], float]:
    """Return a judge of recommenders in training: NDCG@k over the data's likes, warm and cold together.

    Args:
        data: A split with its validation part judged.
        k: Cut.
        max_users: More are thinned out evenly, so that an epoch's judgement stays cheap.
    """
    relevant_UN = csr_array(data.warm + data.cold)
    users = np.flatnonzero(np.diff(relevant_UN.indptr))
    users = users[:: -(-len(users) // max_users)]

    def judge(recommender: Recommender) -> float:
        ranked = recommend(recommender, users, k, seen_UN=data.seen, history_UN=data.history)
        return float(user_metrics(ranked, relevant_UN[users], k)["ndcg"].mean())

    return judge


def interval(value_U: Array, num_bootstraps: int, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a mean over users, drawn whole and with replacement; NaN where there are none.

    Given each user's difference of two recommenders, it tells whether one is better: above or below 0.

    Args:
        value_U: Finite values.
        num_bootstraps: Resamples.
        seed: Of the resampling.

    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval), as in `training.compare`.
    """
    if not len(value_U):
        return float("nan"), float("nan")
    rng, share_U = np.random.default_rng(seed), np.full(len(value_U), 1 / len(value_U))
    means = [rng.multinomial(len(value_U), share_U) @ value_U / len(value_U) for _ in range(num_bootstraps)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _estimate(value_SU: Array, num_bootstraps: int) -> Estimate:
    known_SU = value_SU[:, np.isfinite(value_SU).all(axis=0)]
    per_seed = tuple(float(value_U.mean()) if len(value_U) else float("nan") for value_U in known_SU)
    low, high = interval(known_SU.mean(axis=0), num_bootstraps)
    return Estimate(float(np.mean(per_seed)), low, high, known_SU.shape[1], per_seed)
