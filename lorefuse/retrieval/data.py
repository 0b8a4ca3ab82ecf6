"""A split as retrieval sees it: what was liked in train, what is known when a user is served, what is to be found.

Suffixes: ``R`` rows (interactions), ``U`` users, ``N`` items of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.errors import DataError
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.retrieval.recommender import Side
from lorefuse.training_set.arrays import TrainingSet

Codes = NDArray[np.integer]


@dataclass(frozen=True)
class RetrievalData:
    """Everything a recommender is fitted and judged on; every matrix is sparse, (U, N).

    Attributes:
        train: Likes of train, values 1.
        history: Likes known when a user is served: train, and validation where the test part is judged. Held-out
            cold items are not among them. Values are weights: 0.5^(number of later likes / half-life), or 1.
        seen: Every row before the judged part, liked or not: never recommended again.
        warm: Likes of the judged part whose item has a train row.
        cold: Likes of the judged part whose item has none.
        side: Times, knowledge and fields.
    """

    train: csr_array
    history: csr_array
    seen: csr_array
    warm: csr_array
    cold: csr_array
    side: Side


def from_rows(
    user_row: Codes,
    item_row: Codes,
    time: NDArray[np.number],
    liked: NDArray[np.bool_],
    split_code: Codes,
    *,
    num_users: int,
    num_items: int,
    judged: Split = Split.TEST,
    recency_half_life: float | None = None,
    side: Side | None = None,
) -> RetrievalData:
    """Sort interactions into the matrices of a retrieval task.

    Args:
        user_row: Row of the user table, (R,).
        item_row: Row of the item table, (R,).
        time: Of each interaction, (R,); only its order counts, but for popularity's half-life.
        liked: Which interactions are positive, (R,).
        split_code: Codes of `contract.SPLIT_CODES`, (R,).
        num_users: U.
        num_items: N.
        judged: The part whose likes are to be found, validation or test.
        recency_half_life: After how many later likes a like counts half in the history; None: all count the same.
        side: Knowledge and fields; its time is set here.

    Raises:
        DataError: Train or the judged part holds no like.

    A pair of user and item counts once, at its latest time. A like that was seen before is not to be found again.
    """
    shape = (num_users, num_items)
    train_code, judged_code = SPLIT_CODES[Split.TRAIN], SPLIT_CODES[judged]
    parts_before = (Split.TRAIN,) if judged == Split.VALIDATION else (Split.TRAIN, Split.VALIDATION)
    before = np.isin(split_code, [SPLIT_CODES[part] for part in parts_before])
    seen = before | (split_code == SPLIT_CODES[Split.EXCLUDED])
    has_train_N = np.bincount(item_row[split_code == train_code], minlength=num_items) > 0
    warm = has_train_N[item_row]
    train, known, wanted = (
        liked & (split_code == train_code),
        liked & before & warm,
        liked & (split_code == judged_code),
    )
    for name, rows in (("train", train), (str(judged), wanted)):
        if not rows.any():
            raise DataError(
                f"There are no likes in {name}.", expected="at least one", got="none", fix="bring more data"
            )
    pairs = np.asarray(user_row, np.int64) * num_items + item_row
    wanted &= ~np.isin(pairs, pairs[seen])

    def matrix(rows: NDArray[np.bool_]) -> tuple[csr_array, NDArray[np.float64]]:
        return _matrix(pairs[rows], np.asarray(time)[rows].astype(np.float64), shape)

    train_UN, train_time = matrix(train)
    history_UN, history_time = matrix(known)
    if recency_half_life is not None:
        history_UN.data = recency_weights(history_UN, history_time, recency_half_life)
    side = side or Side()
    return RetrievalData(
        train=train_UN,
        history=history_UN,
        seen=matrix(seen)[0],
        warm=matrix(wanted & warm)[0],
        cold=matrix(wanted & ~warm)[0],
        side=replace(side, time=train_time),
    )


def from_training_set(
    training_set: TrainingSet,
    *,
    threshold: float = 0.5,
    judged: Split = Split.TEST,
    recency_half_life: float | None = None,
) -> RetrievalData:
    """Take a pipeline's training set as a retrieval task; a label of at least `threshold` is a like.

    Args:
        training_set: Rows and tables; times become days.
        threshold: In the unit of the label: 0.5 for a binary one, a rating for regression.
        judged: The part whose likes are to be found, validation or test.
        recency_half_life: See `from_rows`.

    Raises:
        DataError: Train or the judged part holds no like.
    """
    return from_rows(
        training_set.user_row,
        training_set.item_row,
        training_set.timestamp_us / 86_400e6,
        training_set.label >= threshold,
        training_set.split_code,
        num_users=len(training_set.user_fields),
        num_items=len(training_set.item_fields),
        judged=judged,
        recency_half_life=recency_half_life,
        side=Side(
            knowledge=training_set.knowledge,
            user_fields=training_set.user_fields,
            item_fields=training_set.item_fields,
        ),
    )


def recency_weights(likes_UN: csr_array, time: NDArray[np.float64], half_life: float) -> NDArray[np.float32]:
    """Return 0.5^(number of the user's later likes / half_life) of each stored entry, (nnz,).

    Args:
        likes_UN: Likes.
        time: Of each stored entry, (nnz,).
        half_life: In likes.
    """
    users = np.repeat(np.arange(likes_UN.shape[0]), np.diff(likes_UN.indptr))
    order = np.lexsort((time, users))
    num_later = np.empty(len(order))
    num_later[order] = likes_UN.indptr[users + 1] - 1 - np.arange(len(order))
    return np.asarray(0.5 ** (num_later / half_life), dtype=np.float32)


def _matrix(
    pairs: NDArray[np.int64], time: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[csr_array, NDArray[np.float64]]:
    """Return ones at the distinct pairs, sorted by user and item, and the latest time of each."""
    order = np.lexsort((time, pairs))
    pairs, time = pairs[order], time[order]
    last = np.flatnonzero(np.r_[pairs[1:] != pairs[:-1], True]) if len(pairs) else np.zeros(0, dtype=np.int64)
    user, item = np.divmod(pairs[last], shape[1])
    indptr = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=shape[0]))])
    return csr_array((np.ones(len(last), dtype=np.float32), item, indptr), shape=shape), time[last]
