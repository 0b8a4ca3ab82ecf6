from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lorefuse.retrieval.content import ContentCosine
from lorefuse.retrieval.ease import Ease
from lorefuse.retrieval.evaluate import evaluate_retrieval, interval, ndcg_of
from lorefuse.retrieval.popularity import Popularity
from lorefuse.retrieval.recommender import Recommender
from tests.helpers.likes import topic_data


class Fixed(Recommender):
    """Scores that are handed in; notes what it was told."""

    def __init__(self, scores: np.ndarray) -> None:
        self.fixed = scores
        self.judged: list[float] = []

    def _fit(self, train_UN: Any, side: Any, validate: Any) -> None:
        if validate is not None:
            self.judged.append(validate(self))

    def _scores(self, user_rows: Any, history_UN: Any) -> np.ndarray:
        return self.fixed[user_rows]


def test_an_oracle_is_perfect_on_both_kinds() -> None:
    data = topic_data()
    oracle = data.warm.toarray() * 2 + data.cold.toarray() - 1
    report = evaluate_retrieval(lambda _: Fixed(oracle), data, k=5, recall_k=8, num_bootstraps=20)
    assert report.estimates["ndcg_at_5_warm"].mean == 1
    assert report.estimates["recall_at_8_cold"].mean == 1
    # one warm and one cold like a user: the cold one always stands second, against all items
    assert report.estimates["ndcg_at_5_cold"].mean == pytest.approx(1 / np.log2(3))
    assert report.estimates["mrr_at_5_cold"].mean == pytest.approx(0.5)
    assert report.estimates["ndcg_at_5_warm"].num_users == 60


def test_seen_items_never_take_a_place() -> None:
    data = topic_data()
    scores = data.seen.toarray() * 9 + data.warm.toarray()
    assert evaluate_retrieval(lambda _: Fixed(scores), data, k=1, recall_k=1).estimates["ndcg_at_1_warm"].mean == 1


def test_content_finds_cold_items_and_ids_do_not() -> None:
    data = topic_data()
    content = evaluate_retrieval(lambda _: ContentCosine(), data)
    ids = evaluate_retrieval(lambda _: Ease(1.0), data)
    assert content.estimates["ndcg_at_10_cold"].mean > ids.estimates["ndcg_at_10_cold"].mean + 0.2
    assert ids.estimates["ndcg_at_10_warm"].mean > 0.3
    assert evaluate_retrieval(lambda _: Popularity(), data).coverage < content.coverage


def test_seeds_are_reported_apart_and_the_mean_is_theirs() -> None:
    data = topic_data()

    def make(seed: int) -> Recommender:
        return Fixed(np.random.default_rng(seed).normal(size=(60, 40)))

    report = evaluate_retrieval(make, data, seeds=(0, 1, 2))
    estimate = report.estimates["ndcg_at_10_warm"]
    assert len(set(estimate.per_seed)) == 3
    assert estimate.mean == pytest.approx(np.mean(estimate.per_seed))
    assert estimate.mean == pytest.approx(np.nanmean(report.values["ndcg_at_10_warm"]))
    assert estimate.low < estimate.mean < estimate.high
    again = evaluate_retrieval(make, data, seeds=(0, 1, 2))
    assert again.estimates == report.estimates


def test_validation_reaches_who_trains_in_epochs() -> None:
    data, validation = topic_data(), topic_data(judged="validation")
    oracle = Fixed(validation.warm.toarray())
    evaluate_retrieval(lambda _: oracle, data, validation=validation)
    assert oracle.judged == [1.0]
    assert ndcg_of(validation, 10, max_users=7)(oracle) == 1.0


def test_interval_covers_like_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = interval(values, 2000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.03), pytest.approx(values.mean() + half, abs=0.03))
    assert np.isnan(interval(values[:0], 10)).all()
