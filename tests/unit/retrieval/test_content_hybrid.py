from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import zscore

from lorefuse.core.errors import UsageError
from lorefuse.retrieval.content import ContentCosine
from lorefuse.retrieval.ease import Ease
from lorefuse.retrieval.hybrid import Hybrid, reciprocal_ranks, z_scores
from lorefuse.retrieval.popularity import Popularity
from lorefuse.retrieval.recommender import Side
from tests.helpers.likes import random_likes, topic_data


def test_content_by_hand() -> None:
    text = np.array([[2, 0], [0, 1], [3, 3], [0, 0]], dtype=np.float32)
    likes = csr_array(np.array([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=np.float32))
    scores = ContentCosine(centre=False).fit(likes, Side(knowledge={"text": text})).scores(np.array([0, 1]))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(scores, [[half, half, 1, 0], [1, 0, half, 0]], atol=1e-6)


def test_centred_content_by_hand() -> None:
    # liked: (1, 0) and (0, 1), mean (.5, .5): they become opposites, and (.7, .7) stands across both
    text = np.array([[2, 0], [0, 1], [3, 3], [0, 0]], dtype=np.float32)
    likes = csr_array(np.array([[1, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32))
    scores = ContentCosine(centre=True).fit(likes, Side(knowledge={"text": text})).scores(np.array([0, 1]))
    np.testing.assert_allclose(scores, [[1, -1, 0, 0], [-1, 1, 0, 0]], atol=1e-6)


def test_a_user_without_likes_gets_zeros_from_content() -> None:
    likes = csr_array(np.array([[1, 0], [0, 0]], dtype=np.float32))
    model = ContentCosine(centre=False).fit(likes, Side(knowledge={"text": np.eye(2, dtype=np.float32)}))
    assert (model.scores(np.array([1])) == 0).all()


def test_content_without_text_is_refused() -> None:
    for side in (Side(), Side(knowledge={"text": np.zeros((20, 0), dtype=np.float32)})):
        with pytest.raises(UsageError, match="needs item text"):
            ContentCosine().fit(random_likes(), side)


def test_z_scores_are_those_of_scipy() -> None:
    scores = np.random.default_rng(0).normal(3, 2, (4, 9)).astype(np.float32)
    np.testing.assert_allclose(z_scores(scores), zscore(scores, axis=1), atol=1e-5)
    assert (z_scores(np.full((2, 3), 7, dtype=np.float32)) == 0).all()


def test_reciprocal_ranks_by_hand() -> None:
    scores = np.array([[0.1, 0.9, 0.5, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(reciprocal_ranks(scores), [[1 / 64, 1 / 61, 1 / 62, 1 / 63]], atol=1e-9)
    np.testing.assert_allclose(reciprocal_ranks(scores, depth=2), [[0, 1 / 61, 1 / 62, 0]], atol=1e-9)


@pytest.mark.parametrize("fusion", ["z_score", "reciprocal_rank"])
def test_a_hybrid_is_the_weighted_sum_of_its_members(fusion: str) -> None:
    likes, users = random_likes(), np.arange(30)
    scale = z_scores if fusion == "z_score" else reciprocal_ranks
    got = Hybrid([(Ease(5.0), 2.0), (Popularity(), 0.5)], fusion).fit(likes).scores(users)
    expected = 2 * scale(Ease(5.0).fit(likes).scores(users)) + 0.5 * scale(Popularity().fit(likes).scores(users))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_weights_are_chosen_on_validation() -> None:
    tried: list[tuple[float, ...]] = []

    def judge(hybrid: Hybrid) -> float:
        tried.append(tuple(hybrid.weights))
        return -abs(hybrid.weights[1] - 0.5) - abs(hybrid.weights[2] - 3.0)

    members = [(Ease(5.0), 1.0), (Popularity(), 7.0), (Ease(50.0), 7.0)]
    hybrid = Hybrid(members, grid=(0.0, 1.0, 2.0, 4.0)).fit(random_likes(), validate=judge)
    assert hybrid.weights == [1.0, 0.0, 2.0]  # of equally good ones the smallest
    assert tried == [(1, w, 7) for w in (0, 1, 2, 4)] + [(1, 0, w) for w in (0, 1, 2, 4)]
    assert Hybrid(members, grid=(0.0, 1.0)).fit(random_likes()).weights == [1.0, 7.0, 7.0]


def test_a_hybrid_without_any_weight_scores_nothing() -> None:
    hybrid = Hybrid([(Ease(5.0), 0.0), (Popularity(), 0.0)]).fit(random_likes())
    assert (hybrid.scores(np.array([3, 4])) == np.zeros((2, 20))).all()


def test_a_hybrid_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="at least two members"):
        Hybrid([(Popularity(), 1.0)])


def test_a_hybrid_finds_cold_items_and_keeps_warm_ones() -> None:
    data = topic_data()
    users = np.arange(60)
    both = Hybrid([(Ease(5.0), 1.0), (ContentCosine(), 1.0)]).fit(data.train, data.side).scores(users)
    same_topic = np.arange(40)[None, :] % 4 == users[:, None] % 4
    for items in (slice(0, 32), slice(32, 40)):
        inside, outside = both[:, items][same_topic[:, items]], both[:, items][~same_topic[:, items]]
        assert inside.mean() > outside.mean() + 0.5
