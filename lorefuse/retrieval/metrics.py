"""Metrics of whole rankings, from the item rows shown to each user and the ones that were relevant.

Suffixes: ``U`` users, ``K`` ranks, ``N`` items of the catalogue. A rank that holds `NOTHING` shows no item: a user has
fewer candidates than ranks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Array = NDArray[np.float64]
NOTHING = -1


def find_hits(ranked_UK: NDArray[np.integer], relevant_UN: csr_array) -> NDArray[np.bool_]:
    """Return which shown items are relevant, (U, K).

    Args:
        ranked_UK: Item rows, best first; no item twice; `NOTHING` after a user's last candidate.
        relevant_UN: Stored entries are the relevant items; their values do not matter.

    Raises:
        ValueError: The two disagree on the number of users, or an item row is outside of the catalogue.
    """
    num_users, num_items = relevant_UN.shape
    if len(ranked_UK) != num_users:
        raise ValueError(f"expected rankings of {num_users} users, got {len(ranked_UK)}")
    if ranked_UK.size and not (ranked_UK.min() >= NOTHING and ranked_UK.max() < num_items):
        raise ValueError(f"expected item rows below {num_items}, got {ranked_UK.min()} to {ranked_UK.max()}")
    # One number per pair of user and item, so that all users are looked up in one go.
    users = np.repeat(np.arange(num_users, dtype=np.int64), np.diff(relevant_UN.indptr))
    relevant = users * num_items + relevant_UN.indices
    shown = np.arange(num_users, dtype=np.int64)[:, None] * num_items + ranked_UK
    return np.asarray(np.isin(shown, relevant) & (ranked_UK != NOTHING))


def user_metrics(ranked_UK: NDArray[np.integer], relevant_UN: csr_array, k: int) -> dict[str, Array]:
    """Return each user's NDCG, recall, hit rate and reciprocal rank at a cut; NaN for users with nothing relevant.

    With ``rel_r`` 1 where rank r (from 1) is relevant, and n relevant items:

    - ``ndcg``: Σ rel_r / log2(r + 1) over the first k ranks, divided by the same sum with min(n, k) hits on top.
    - ``recall``: Σ rel_r / n.
    - ``hit_rate``: 1 where any rel_r is 1.
    - ``mrr``: 1 / r of the first hit, 0 without one.

    Args:
        ranked_UK: Item rows, best first.
        relevant_UN: Stored entries are the relevant items.
        k: Cut; at most K.

    Returns:
        Name → (U,) float64.

    Raises:
        ValueError: k is not between 1 and K.

    Source: Järvelin and Kekäläinen, TOIS 2002, with binary gains.
    """
    if not 1 <= k <= ranked_UK.shape[1]:
        raise ValueError(f"expected k between 1 and {ranked_UK.shape[1]}, got {k}")
    hit_UK = find_hits(ranked_UK[:, :k], relevant_UN).astype(np.float64)
    num_relevant_U = np.diff(relevant_UN.indptr)
    judged = num_relevant_U > 0
    discount_K = 1 / np.log2(np.arange(k) + 2)
    ideal_U = np.concatenate([[np.nan], np.cumsum(discount_K)])[np.minimum(num_relevant_U, k)]
    any_U, first_U = hit_UK.any(axis=1), hit_UK.argmax(axis=1)
    values = {
        "ndcg": hit_UK @ discount_K / ideal_U,
        "recall": hit_UK.sum(axis=1) / np.where(judged, num_relevant_U, np.nan),
        "hit_rate": any_U.astype(np.float64),
        "mrr": np.where(any_U, 1 / (first_U + 1), 0.0),
    }
    return {name: np.where(judged, value_U, np.nan) for name, value_U in values.items()}


def coverage(ranked_UK: NDArray[np.integer], num_items: int) -> float:
    """Return the share of the catalogue that is shown to anyone."""
    shown = np.unique(ranked_UK)
    return float((shown != NOTHING).sum() / num_items) if num_items else float("nan")


def self_information(train_count_N: NDArray[np.number], num_users: int) -> Array:
    """Return how surprising each item is, in bits: log2(users / users who have it in train), (N,).

    An item that nobody has counts as if one user had it.

    Source: Zhou et al., PNAS 2010, "surprisal".
    """
    return np.asarray(np.log2(num_users / np.maximum(train_count_N, 1)), dtype=np.float64)


def novelty(ranked_UK: NDArray[np.integer], information_N: Array) -> float:
    """Return the mean self-information of the shown items, in bits; NaN where nothing is shown.

    Args:
        ranked_UK: Item rows.
        information_N: As `self_information` gives it.
    """
    shown = ranked_UK[ranked_UK != NOTHING]
    return float(information_N[shown].mean()) if len(shown) else float("nan")
