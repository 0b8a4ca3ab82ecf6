from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from lorefuse.retrieval.metrics import NOTHING, coverage, find_hits, novelty, self_information, user_metrics

METRICS = ("ndcg", "recall", "hit_rate", "mrr")


def _random(seed: int, num_users: int = 40, num_items: int = 25, depth: int = 15) -> tuple[np.ndarray, csr_array]:
    rng = np.random.default_rng(seed)
    ranked = np.stack([rng.permutation(num_items)[:depth] for _ in range(num_users)])
    return ranked, csr_array((rng.random((num_users, num_items)) < 0.15).astype(np.float32))


def _naive(ranked: list[int], relevant: set[int], k: int) -> dict[str, float]:
    hits = [item in relevant for item in ranked[:k]]
    ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return {
        "ndcg": sum(1 / np.log2(rank + 1) for rank, hit in enumerate(hits, 1) if hit) / ideal,
        "recall": sum(hits) / len(relevant),
        "hit_rate": float(any(hits)),
        "mrr": next((1 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0),
    }


@pytest.mark.parametrize("k", [1, 5, 10, 15])
def test_metrics_are_those_of_ranx(k: int) -> None:
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # compiling ranx takes a minute, and these lists are short
    ranx = pytest.importorskip("ranx", reason="ranx, the public evaluator, is not installed")
    ranked, relevant = _random(seed=k)
    judged = np.flatnonzero(np.diff(relevant.indptr))
    qrels = ranx.Qrels({str(u): {str(i): 1 for i in relevant[[u]].indices} for u in judged})
    run = ranx.Run({str(u): {str(i): float(-rank) for rank, i in enumerate(ranked[u])} for u in judged})
    names = {"ndcg": f"ndcg@{k}", "recall": f"recall@{k}", "hit_rate": f"hit_rate@{k}", "mrr": f"mrr@{k}"}
    theirs = ranx.evaluate(qrels, run, list(names.values()))
    ours = user_metrics(ranked, relevant, k)
    for name, their_name in names.items():
        assert np.nanmean(ours[name]) == pytest.approx(theirs[their_name], abs=1e-9), name


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_metrics_are_a_loop_over_users(seed: int, k: int) -> None:
    ranked, relevant = _random(seed, num_users=6, num_items=14, depth=12)
    ours = user_metrics(ranked, relevant, k)
    for user in range(6):
        wanted = set(relevant[[user]].indices.tolist())
        for name in METRICS:
            expected = _naive(ranked[user].tolist(), wanted, k)[name] if wanted else np.nan
            np.testing.assert_allclose(ours[name][user], expected, atol=1e-12)


def test_metrics_by_hand() -> None:
    ranked = np.array([[4, 0, 2], [1, 3, NOTHING], [0, 1, 2]])
    relevant = csr_array(np.array([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], dtype=np.float32))
    got = user_metrics(ranked, relevant, 3)
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    np.testing.assert_allclose(got["ndcg"], [(second + third) / (1 + second), 0, np.nan])
    np.testing.assert_allclose(got["recall"], [1, 0, np.nan])
    np.testing.assert_allclose(got["hit_rate"], [1, 0, np.nan])
    np.testing.assert_allclose(got["mrr"], [0.5, 0, np.nan])
    assert coverage(ranked, 5) == 1.0
    assert coverage(ranked[1:2], 5) == 0.4
    information = self_information(np.array([8, 4, 2, 1, 0]), 8)
    np.testing.assert_allclose(information, [0, 1, 2, 3, 3])
    assert novelty(ranked[1:2], information) == 2.0
    assert np.isnan(novelty(np.full((2, 2), NOTHING), information))


def test_nothing_is_never_a_hit_of_the_user_before() -> None:
    # user 1's NOTHING would be item 1 of user 0 if it were counted as a number
    relevant = csr_array(np.array([[0, 1], [1, 0]], dtype=np.float32))
    assert not find_hits(np.array([[NOTHING], [NOTHING]]), relevant).any()


def test_what_does_not_fit_is_refused() -> None:
    ranked, relevant = _random(0)
    with pytest.raises(ValueError, match="40 users, got 39"):
        find_hits(ranked[1:], relevant)
    with pytest.raises(ValueError, match="item rows below 25"):
        find_hits(ranked + 20, relevant)
    with pytest.raises(ValueError, match="k between 1 and 15, got 16"):
        user_metrics(ranked, relevant, 16)
