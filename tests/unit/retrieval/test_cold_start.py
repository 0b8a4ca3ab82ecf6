from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lorefuse.core.errors import UsageError
from lorefuse.retrieval.cold_start import TextInherited
from lorefuse.retrieval.ease import Ease
from lorefuse.retrieval.evaluate import evaluate_retrieval
from lorefuse.retrieval.popularity import Popularity
from lorefuse.retrieval.recommender import Side
from tests.helpers.likes import NUM_USERS, topic_data


def test_scores_by_hand() -> None:
    # liked items 0 (two users), 1 (one); new items 2 and 3. The mean text is (0, 0): centred vectors are the texts.
    likes = csr_array(np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=np.float32))
    text = np.array([[1, 0], [-1, 0], [3, 4], [0, 2], [0, 0]], dtype=np.float32)
    one = TextInherited(Popularity(), 1, strength=1.0).fit(likes, Side(knowledge={"text": text})).scores(np.array([0]))
    np.testing.assert_allclose(one, [[2, 1, 0.6 * 2, 0, 0]], atol=1e-6)
    # the other neighbour of item 2 has a cosine of −.6, which counts as 0
    two = TextInherited(Popularity(), 2, strength=0.5).fit(likes, Side(knowledge={"text": text})).scores(np.array([0]))
    np.testing.assert_allclose(two, [[2, 1, 0.6, 0, 0]], atol=1e-6)


def test_the_best_of_the_near_ones_counts() -> None:
    # three liked items a third of a circle apart, so that their mean is 0, with 1, 3 and 2 likes; the new one stands
    # between the first two: cosines 1/2, 1/2 and −1
    likes = csr_array(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]], dtype=np.float32))
    angle = np.deg2rad([0, 120, 240, 60])
    text = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    fitted = TextInherited(Popularity(), 3, strength=0.8).fit(likes, Side(knowledge={"text": text}))
    scores = fitted.scores(np.array([1]))
    np.testing.assert_allclose(scores, [[1, 3, 2, 0.8 * 3 / 2]], atol=1e-6)


def test_known_items_keep_their_scores_and_new_ones_are_found() -> None:
    data, users = topic_data(), np.arange(NUM_USERS)
    plain, inherited = Ease(5.0).fit(data.train), TextInherited(Ease(5.0), 5).fit(data.train, data.side)
    known = np.bincount(data.train.indices, minlength=40) > 0
    assert np.array_equal(plain.scores(users)[:, known], inherited.scores(users)[:, known])
    without, with_text = (evaluate_retrieval(lambda _, m=m: m, data) for m in (plain, inherited))
    assert with_text.estimates["ndcg_at_10_cold"].mean > without.estimates["ndcg_at_10_cold"].mean + 0.1


def test_nothing_changes_without_new_items() -> None:
    likes = csr_array(np.eye(4, dtype=np.float32))
    side = Side(knowledge={"text": np.eye(4, dtype=np.float32)})
    assert np.array_equal(
        TextInherited(Ease(1.0)).fit(likes, side).scores(np.arange(4)), Ease(1.0).fit(likes).scores(np.arange(4))
    )


def test_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="TextInherited needs item text"):
        TextInherited(Popularity()).fit(csr_array(np.eye(4, dtype=np.float32)))
