from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score, root_mean_squared_error

from lorefuse.training.metrics import judge, ranking
from lorefuse.training.row_metrics import auc, gauc, logloss, rmse

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=40)
"""label, score in sixths (so that ties happen), user."""


def _arrays(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label, score, user = np.array(rows).T
    return label.astype(float), score / 6, user


def _naive_ranking(relevant: np.ndarray, score: np.ndarray, user: np.ndarray, k: int) -> tuple[float, float]:
    ndcgs, recalls = [], []
    for one in sorted(set(user)):
        rows = [n for n in range(len(user)) if user[n] == one]
        best_first = sorted(rows, key=lambda n: -score[n])  # sorted() is stable: ties keep the rows' order
        num_relevant = int(sum(relevant[n] for n in rows))
        if num_relevant:
            gain = sum(relevant[n] / np.log2(rank + 2) for rank, n in enumerate(best_first[:k]))
            ndcgs.append(gain / sum(1 / np.log2(rank + 2) for rank in range(min(k, num_relevant))))
            recalls.append(sum(relevant[n] for n in best_first[:k]) / num_relevant)
    return (float(np.mean(ndcgs)), float(np.mean(recalls))) if ndcgs else (float("nan"), float("nan"))


@settings(deadline=None)
@given(ROWS)
def test_auc_logloss_and_rmse_are_those_of_sklearn(rows: list[tuple[int, int, int]]) -> None:
    label, score, _ = _arrays(rows)
    if 0 < label.sum() < len(label):
        assert auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert logloss(label, score) == pytest.approx(log_loss(label, score, labels=[0, 1]), abs=1e-12)
    assert rmse(label, score) == pytest.approx(root_mean_squared_error(label, score), abs=1e-12)


@settings(deadline=None)
@given(ROWS)
def test_gauc_is_a_loop_over_users_with_sklearns_auc(rows: list[tuple[int, int, int]]) -> None:
    label, score, user = _arrays(rows)
    total = size = 0.0
    for one in set(user):
        mine = user == one
        if 0 < label[mine].sum() < mine.sum():
            total += roc_auc_score(label[mine], score[mine]) * mine.sum()
            size += mine.sum()
    np.testing.assert_allclose(gauc(label, score, None, user), total / size if size else np.nan, atol=1e-12)


@settings(deadline=None)
@given(ROWS, st.integers(1, 12))
def test_ranking_is_a_loop_over_users(rows: list[tuple[int, int, int]], k: int) -> None:
    label, score, user = _arrays(rows)
    np.testing.assert_allclose(ranking(label, score, user, k), _naive_ranking(label, score, user, k), atol=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 1), min_size=2, max_size=30), st.integers(1, 12), st.integers(0, 99))
def test_ndcg_without_ties_is_that_of_sklearn(labels: list[int], k: int, seed: int) -> None:
    label, score = np.array(labels, float), np.random.default_rng(seed).permutation(len(labels)).astype(float)
    if label.any():
        ndcg, _ = ranking(label, score, np.zeros(len(label), dtype=int), k)
        assert ndcg == pytest.approx(ndcg_score(label[None], score[None], k=k), abs=1e-12)


def test_ranking_by_hand() -> None:
    # user 5: relevant at ranks 1 and 3 of 3, cut at 2; user 9 has nothing relevant and is left out
    relevant, score = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.5, 0.1, 0.7])
    ndcg, recall = ranking(relevant, score, np.array([5, 5, 5, 9]), 2)
    assert ndcg == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert recall == 0.5
    assert np.isnan(ranking(relevant[:0], score[:0], np.zeros(0, dtype=int), 2)).all()
    assert np.isnan(ranking(np.zeros(4), score, np.zeros(4, dtype=int), 2)).all()


def _rows(num_rows: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = (rng.random(num_rows) < 0.5).astype(np.float32)
    score = rng.random(num_rows).astype(np.float32)
    return label, score, rng.integers(0, 9, num_rows).astype(np.int32), rng.random(num_rows) < 0.3


def test_each_subset_is_judged_on_its_own_rows() -> None:
    label, score, user, cold = _rows()
    result = judge(label, score, user, cold, k=5, label_kind="binary")
    names = {"auc", "gauc", "logloss", "ndcg_at_5", "recall_at_5"}
    assert set(result) == {f"{name}_{subset}" for name in names for subset in ("all", "warm", "cold")}
    for subset, keep in {"all": cold | True, "warm": ~cold, "cold": cold}.items():
        assert result[f"auc_{subset}"] == pytest.approx(roc_auc_score(label[keep], score[keep]))
        expected = _naive_ranking(label[keep], score[keep], user[keep], 5)
        assert (result[f"ndcg_at_5_{subset}"], result[f"recall_at_5_{subset}"]) == pytest.approx(expected)


def test_what_is_undefined_is_nan_and_the_rest_is_not() -> None:
    label, score, user, cold = _rows()
    none_cold = judge(label, score, user, cold & False, k=5, label_kind="binary")
    assert all(np.isnan(value) == name.endswith("_cold") for name, value in none_cold.items())
    liked = judge(np.ones_like(label), score, user, cold, k=5, label_kind="binary")
    assert np.isnan(liked["auc_warm"])
    assert np.isnan(liked["gauc_warm"])
    assert np.isfinite(liked["logloss_warm"])
    assert liked["ndcg_at_5_warm"] == pytest.approx(1.0)
    disliked = judge(np.zeros_like(label), score, user, cold, k=5, label_kind="binary")
    assert np.isnan(disliked["recall_at_5_all"])
    assert np.isfinite(disliked["logloss_all"])


def test_regression_has_an_rmse_and_ranks_by_a_threshold() -> None:
    _, score, user, cold = _rows()
    value = np.random.default_rng(1).integers(1, 6, len(score)).astype(np.float32)
    result = judge(value, 5 * score, user, cold, k=5, label_kind="regression", value_R=value, threshold=4.0)
    assert not any(name.startswith("logloss") for name in result)
    assert result["rmse_warm"] == pytest.approx(root_mean_squared_error(value[~cold], 5 * score[~cold]), rel=1e-6)
    assert result["auc_all"] == pytest.approx(roc_auc_score(value >= 4, score))
    assert result == judge(value, 5 * score, user, cold, k=5, label_kind="regression", threshold=4.0)
