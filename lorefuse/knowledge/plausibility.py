"""Do the links join the right things? A permutation test that needs no ground truth.

If a link joins an item to its own entity, items of one category have entities with more in common than items of
another: thrillers link to entities that share a genre node, a director, an actor. If links are keyed wrongly, they
share no more than under a random re-assignment. The z-score says how far the links stand out from random ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from lorefuse.core.schema import ITEM_ID

NUM_PERMUTATIONS = 100
MAX_ENTITIES = 3000


def link_z_score(item_categories: pd.Series, neighbours: csr_matrix, seed: int = 0) -> float:
    """Compare the links with random re-assignments.

    Args:
        item_categories: One set of categories per linked item, row n belonging to row n of `neighbours`.
        neighbours: Row-normalised entity neighbourhoods of the linked items, float, (linked items, columns).
        seed: Of the permutations.

    Returns:
        Standard deviations by which the agreement of categories and neighbourhoods exceeds that of shuffled links;
        0 where there is nothing to compare.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(len(item_categories))
    if len(rows) > MAX_ENTITIES:
        rows = np.sort(rng.choice(rows, MAX_ENTITIES, replace=False))
    categories = _one_hot(item_categories.iloc[rows])
    linked = neighbours[rows]
    if len(rows) < 10 or categories.shape[1] < 2:
        return 0.0

    def agreement(order: np.ndarray[Any, Any]) -> float:
        # Σ over categories of |mean neighbourhood|²: high when members of a category share neighbours.
        centroids = categories.T @ linked[order]
        return float(centroids.multiply(centroids).sum())

    observed = agreement(np.arange(len(rows)))
    shuffled = np.array([agreement(rng.permutation(len(rows))) for _ in range(NUM_PERMUTATIONS)])
    spread = shuffled.std()
    return float((observed - shuffled.mean()) / spread) if spread > 0 else 0.0


def _one_hot(categories: pd.Series) -> csr_matrix:
    """Membership of each item in each category, columns scaled so that large categories do not drown small ones."""
    exploded = categories.map(list).reset_index(drop=True).explode().dropna()
    codes, _ = pd.factorize(exploded, sort=True)
    matrix = csr_matrix(
        (np.ones(len(codes)), (exploded.index.to_numpy(), codes)),
        shape=(len(categories), int(codes.max(initial=-1)) + 1),
    )
    sizes = np.asarray(matrix.sum(0)).ravel()
    return (matrix @ _diagonal(1 / np.sqrt(np.maximum(sizes, 1)))).tocsr()


def _diagonal(values: np.ndarray[Any, Any]) -> csr_matrix:
    from scipy.sparse import diags

    return diags(values).tocsr()


def category_sets(items: pd.DataFrame, columns: tuple[str, ...], multi_columns: tuple[str, ...]) -> pd.Series:
    """Return one list of categories per item, each named by its column; for `link_z_score`."""
    rows: list[list[str]] = [[] for _ in range(len(items))]
    for name in columns:
        for row, value in zip(rows, items[name], strict=True):
            if value:
                row.append(f"{name}={value}")
    for name in multi_columns:
        for row, values in zip(rows, items[name], strict=True):
            row += [f"{name}={value}" for value in values]
    return pd.Series(rows, index=items[ITEM_ID], dtype=object)
