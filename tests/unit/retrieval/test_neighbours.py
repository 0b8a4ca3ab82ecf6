from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lorefuse.retrieval import neighbours
from lorefuse.retrieval.neighbours import ItemKNN, UserKNN, cosine, keep_nearest, nearest_items, without
from tests.helpers.likes import random_likes


def _dense_cosine(rows: np.ndarray, shrinkage: float) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1)
    return rows @ rows.T / (norm[:, None] * norm[None, :] + shrinkage)


def _nearest(similarity: np.ndarray, k: int) -> np.ndarray:
    kept = np.zeros_like(similarity)
    for row, values in enumerate(similarity):
        for column in sorted(range(len(values)), key=lambda n: -values[n])[:k]:
            kept[row, column] = values[column]
    return kept


def test_cosine_by_hand() -> None:
    rows = csr_array(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 2]], dtype=np.float32))
    np.testing.assert_allclose(
        cosine(rows, rows, 1.0).toarray(),
        [[2 / 3, 1 / (np.sqrt(2) + 1), 0], [1 / (np.sqrt(2) + 1), 0.5, 0], [0, 0, 4 / 5]],
        atol=1e-7,
    )


def test_nearest_are_kept_and_the_own_column_is_dropped() -> None:
    rows = csr_array(np.array([[3, 1, 3, 2], [0, 0, 0, 5], [0, 0, 0, 0]], dtype=np.float32))
    assert keep_nearest(rows, 2).toarray().tolist() == [[3, 0, 3, 0], [0, 0, 0, 5], [0, 0, 0, 0]]
    assert without(rows, np.array([0, 3, 1])).toarray().tolist() == [[0, 1, 3, 2], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
@pytest.mark.parametrize("num_neighbours", [3, 50])
def test_item_knn_is_the_dense_one(num_neighbours: int, shrinkage: float) -> None:
    likes = random_likes()
    dense = likes.toarray().astype(np.float64)
    similarity = _dense_cosine(dense.T, shrinkage)
    np.fill_diagonal(similarity, 0)
    got = ItemKNN(num_neighbours, shrinkage).fit(likes).scores(np.arange(30))
    np.testing.assert_allclose(got, dense @ _nearest(similarity, num_neighbours), atol=1e-6)


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
@pytest.mark.parametrize("num_neighbours", [3, 50])
def test_user_knn_is_the_dense_one(num_neighbours: int, shrinkage: float) -> None:
    likes = random_likes()
    dense = likes.toarray().astype(np.float64)
    similarity = _dense_cosine(dense, shrinkage)
    np.fill_diagonal(similarity, 0)
    got = UserKNN(num_neighbours, shrinkage).fit(likes).scores(np.array([4, 0, 29]))
    np.testing.assert_allclose(got, (_nearest(similarity, num_neighbours) @ dense)[[4, 0, 29]], atol=1e-6)


def test_item_knn_is_that_of_implicit() -> None:
    nearest = pytest.importorskip("implicit.nearest_neighbours", reason="implicit is not installed")
    from scipy.sparse import csr_matrix

    likes = random_likes(num_users=80, num_items=20, share=0.3)
    model = nearest.CosineRecommender(K=20, num_threads=1)  # all neighbours: ties cannot be cut differently
    model.fit(csr_matrix(likes.astype(np.float64)), show_progress=False)
    ids, scores = model.recommend(np.arange(80), csr_matrix(likes), N=20, filter_already_liked_items=True)
    ours = ItemKNN(num_neighbours=20, shrinkage=0.0).fit(likes).scores(np.arange(80))
    checked = 0
    for user in range(80):
        for item, score in zip(ids[user], scores[user], strict=True):
            if item >= 0 and score > 0:  # liked ones come last with the lowest float; the own column counts there
                assert ours[user, item] == pytest.approx(score, abs=1e-6)
                checked += 1
    assert checked > 500


def test_a_history_replaces_the_train_likes() -> None:
    likes = random_likes()
    other = csr_array(likes.toarray()[::-1] * 0.5)
    for model in (ItemKNN(5, 1.0).fit(likes), UserKNN(5, 0.0).fit(likes)):
        assert not np.allclose(model.scores(np.arange(30)), model.scores(np.arange(30), other))
    model = ItemKNN(5, 1.0).fit(likes)
    np.testing.assert_allclose(model.scores(np.arange(30), other), model.scores(np.arange(29, -1, -1)) / 2, atol=1e-6)


@pytest.mark.parametrize("max_products", [1, 40, 300])
def test_blocks_of_items_give_what_all_at_once_do(max_products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    likes = csr_array(np.random.default_rng(0).random((30, 25)) < 0.2, dtype=np.float32)
    whole = nearest_items(likes, 4, 2.0)
    monkeypatch.setattr(neighbours, "MAX_PRODUCTS", max_products)
    blocks = nearest_items(likes, 4, 2.0)
    np.testing.assert_array_equal(blocks.toarray(), whole.toarray())
    assert nearest_items(csr_array((3, 0), dtype=np.float32), 4, 2.0).shape == (0, 0)
