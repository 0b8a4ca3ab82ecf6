"""Metrics of scored rows, each over all, warm and cold rows; AUC, GAUC, logloss and RMSE come from `row_metrics`.

Suffixes: ``R`` rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lorefuse.training.row_metrics import SUBSETS, Array, auc, gauc, logloss, rmse, subset_mask


def judge(
    label_R: NDArray[np.floating],
    score_R: NDArray[np.floating],
    user_R: NDArray[np.integer],
    cold_R: NDArray[np.bool_],
    *,
    k: int,
    label_kind: str,
    value_R: NDArray[np.floating] | None = None,
    threshold: float = 0.5,
) -> dict[str, float]:
    """Return every metric as ``<name>_<subset>``, e.g. ``auc_warm`` or ``ndcg_at_10_cold``; NaN where undefined.

    Args:
        label_R: 0/1 or, for a regression, the value.
        score_R: Probability or predicted value.
        user_R: The row's user.
        cold_R: Rows whose item has no train row.
        k: Cut of NDCG and Recall.
        label_kind: ``binary`` or ``regression``.
        value_R: For a regression, what `threshold` is compared with to call a row relevant; default: the label.
        threshold: A row of at least this value is relevant.
    """
    relevant_R = (label_R if value_R is None else value_R) >= threshold
    result: dict[str, float] = {}
    for subset in SUBSETS:
        keep = subset_mask(cold_R, subset)
        label, score, user = label_R[keep].astype(np.float64), score_R[keep].astype(np.float64), user_R[keep]
        relevant = relevant_R[keep].astype(np.float64)
        result[f"auc_{subset}"] = auc(relevant, score)
        result[f"gauc_{subset}"] = gauc(relevant, score, user_R=user.astype(np.int64))
        if label_kind == "binary":
            result[f"logloss_{subset}"] = logloss(label, score)
        else:
            result[f"rmse_{subset}"] = rmse(label, score)
        ndcg, recall = ranking(relevant, score, user, k)
        result[f"ndcg_at_{k}_{subset}"], result[f"recall_at_{k}_{subset}"] = ndcg, recall
    return result


def ranking(relevant_R: Array, score_R: Array, user_R: NDArray[np.integer], k: int) -> tuple[float, float]:
    """Return NDCG@k and Recall@k, means over users of their own rows ranked by score.

    NDCG has binary gains and the discount 1 / log2(rank + 1) (Järvelin and Kekäläinen, TOIS 2002); Recall is the share
    of a user's relevant rows among the top k. Users without a relevant row are left out; ties keep the rows' order.

    Args:
        relevant_R: 0/1.
        score_R: Higher is better.
        user_R: The row's user.
        k: Cut.
    """
    if not len(relevant_R):
        return float("nan"), float("nan")
    order = np.lexsort((-score_R, user_R))
    relevant, user = relevant_R[order], user_R[order]
    starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    rank = np.arange(len(user)) - np.repeat(starts, np.diff(np.r_[starts, len(user)]))
    gain = np.where(rank < k, relevant / np.log2(rank + 2), 0.0)
    positives = np.add.reduceat(relevant, starts)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])[np.minimum(positives, k).astype(int)]
    hits = np.add.reduceat(np.where(rank < k, relevant, 0.0), starts)
    judged = positives > 0
    if not judged.any():
        return float("nan"), float("nan")
    ndcg = np.add.reduceat(gain, starts)[judged] / ideal[judged]
    return float(ndcg.mean()), float((hits[judged] / positives[judged]).mean())
