"""Who likes an item beside what: seen from train rows alone. What the supervised reducer and fine-tuning learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.core.errors import DataError
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, LABEL, SPLIT, USER_ID, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.embedding.reducers import ReducerTarget

_MIN_TARGET_DIM = 64


@dataclass(frozen=True)
class LikedRows:
    """Liked train rows, by user and time.

    Attributes:
        user_row: int64 (R,), a number for each user.
        item_row: int64 (R,), rows of `items.parquet`.
        num_items: Items of the catalogue.
        data_cutoff: Latest train row of the split, ISO 8601 in UTC.
    """

    user_row: NDArray[np.int64]
    item_row: NDArray[np.int64]
    num_items: int
    data_cutoff: str


def liked_train(dataset: Dataset, split_path: Path) -> pd.DataFrame:
    """Return the liked interactions of the train part by user and time.

    A row is liked when its label is at least the mean label of the train rows.
    """
    parts, _ = load_split(split_path)
    interactions = dataset.interactions()
    train = interactions[(parts[SPLIT] == Split.TRAIN).to_numpy()]
    liked = train[train[LABEL] >= train[LABEL].mean()]
    return liked.sort_values([USER_ID, EVENT_TIMESTAMP], kind="stable")


def liked_rows(dataset: Dataset, split_path: Path) -> LikedRows:
    """Return `liked_train` as numbers."""
    liked = liked_train(dataset, split_path)
    user_row = pd.factorize(liked[USER_ID], sort=True)[0].astype(np.int64)
    items = dataset.items()[ITEM_ID]
    item_row = pd.Index(items).get_indexer(liked[ITEM_ID]).astype(np.int64)
    return LikedRows(user_row, item_row, len(items), str(load_split(split_path)[1]["data_cutoff"]))


def co_consumption(liked: LikedRows, reduce_dim: int) -> ReducerTarget:
    """Return an item's place among the tastes of train users: its unit row in a truncated SVD.

    The item-user matrix is scaled by one over the root of both degrees, as in a graph convolution (LightGCN,
    arXiv:2002.02126), so that neither heavy users nor hits outweigh the rest. An item counts by log(1 + likes).

    Args:
        liked: Liked train rows.
        reduce_dim: Dimensions the reducer keeps; the target has at least twice as many, where the data allow.

    Raises:
        DataError: There are too few users or items to tell tastes apart.
    """
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD

    pairs = np.unique(np.stack([liked.item_row, liked.user_row]), axis=1)
    item_row, user_row = pairs
    num_users = int(user_row.max()) + 1 if len(user_row) else 0
    item_degree = np.bincount(item_row, minlength=liked.num_items)
    user_degree = np.bincount(user_row, minlength=num_users)
    dim = min(max(_MIN_TARGET_DIM, 2 * reduce_dim), num_users - 1, int((item_degree > 0).sum()) - 1)
    if dim < 1:
        raise DataError(
            "The supervised reducer cannot be fitted.",
            expected="at least two users and two items with liked train rows",
            got=f"{num_users} users, {int((item_degree > 0).sum())} items",
            fix="set embedding.reducer: pca",
        )
    values = 1 / np.sqrt(item_degree[item_row] * user_degree[user_row])
    matrix = csr_matrix((values, (item_row, user_row)), shape=(liked.num_items, num_users))
    vectors = TruncatedSVD(dim, algorithm="arpack", random_state=0).fit_transform(matrix)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-9)
    return ReducerTarget(unit.astype(np.float32), np.log1p(item_degree).astype(np.float32))


def co_liked_pairs(liked: LikedRows, max_gap: int) -> NDArray[np.int64]:
    """Return distinct pairs of different items that one user liked at most `max_gap` likes apart, (P, 2), sorted.

    Example:
        >>> rows = LikedRows(np.array([0, 0, 0, 1, 1]), np.array([5, 2, 9, 2, 5]), 10, "")
        >>> co_liked_pairs(rows, 1).tolist()
        [[2, 5], [2, 9]]
    """
    found = [np.zeros((0, 2), dtype=np.int64)]
    for gap in range(1, max_gap + 1):
        same_user = liked.user_row[gap:] == liked.user_row[:-gap]
        pair = np.stack([liked.item_row[:-gap], liked.item_row[gap:]], axis=1)[same_user]
        found.append(np.sort(pair, axis=1))
    pairs = np.concatenate(found)
    distinct: NDArray[np.int64] = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    return distinct
