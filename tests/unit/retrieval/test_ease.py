from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array

from lorefuse.core.errors import UsageError
from lorefuse.retrieval import ease
from lorefuse.retrieval.ease import Ease
from tests.helpers.likes import random_likes


def _reference(dense: np.ndarray, l2: float) -> np.ndarray:
    """Eq. 8 of the paper with numpy's own inverse, column by column."""
    inverse = np.linalg.inv(dense.T @ dense + l2 * np.eye(dense.shape[1]))
    weights = np.zeros_like(inverse)
    for i in range(len(inverse)):
        for j in range(len(inverse)):
            weights[i, j] = 0 if i == j else -inverse[i, j] / inverse[j, j]
    return weights


@pytest.mark.parametrize("l2", [1.0, 250.0])
def test_scores_are_those_of_the_paper(l2: float) -> None:
    likes = random_likes()
    dense = likes.toarray().astype(np.float64)
    np.testing.assert_allclose(Ease(l2).fit(likes).scores(np.arange(30)), dense @ _reference(dense, l2), atol=1e-6)


def test_two_items_by_hand() -> None:
    # users {a, b}, {a, b}, {a}: G = [[3, 2], [2, 2]] + I; det 8; P = [[3, -2], [-2, 4]] / 8
    likes = csr_array(np.array([[1, 1], [1, 1], [1, 0]], dtype=np.float32))
    np.testing.assert_allclose(Ease(1.0).fit(likes).weights_MM, [[0, 0.5], [2 / 3, 0]], atol=1e-7)


def test_weights_minimise_what_they_should() -> None:
    dense = random_likes(num_users=12, num_items=4, share=0.4).toarray().astype(np.float64)
    off = ~np.eye(4, dtype=bool)

    def loss(free: np.ndarray) -> float:
        weights = np.zeros((4, 4))
        weights[off] = free
        return float(((dense - dense @ weights) ** 2).sum() + 2.0 * (weights**2).sum())

    found = minimize(loss, np.zeros(12), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(Ease(2.0).fit(csr_array(dense.astype(np.float32))).weights_MM[off], found, atol=1e-5)


def test_items_nobody_liked_score_nothing() -> None:
    dense = random_likes().toarray()
    dense[:, 7] = 0
    model = Ease(10.0).fit(csr_array(dense))
    scores = model.scores(np.arange(30), csr_array(np.ones_like(dense)))
    assert (scores[:, 7] == 0).all()
    assert model.weights_MM.shape == (19, 19)


def test_a_catalogue_that_would_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "MAX_ITEMS", 10)
    with pytest.raises(UsageError, match="at most 10 liked items"):
        Ease().fit(random_likes())
