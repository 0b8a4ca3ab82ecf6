"""Users at the moment when a part of a split begins: what is known of them, and what is to be found.

Suffixes: ``U`` users judged, ``N`` items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.contract import SPLIT_CODES, Split
from lorefuse.features.training_set import TrainingSet
from lorefuse.retrieval.data import RetrievalData, from_training_set

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Moments:
    """Users with at least one like in the judged part, each right before that part begins.

    Attributes:
        users: int64 (U,) rows of the user table.
        liked: Catalogue rows of what each had liked, newest first.
        seen: Catalogue rows of what each had, liked or not, newest first.
        hidden: Rows that are not shown to each: had before, or held out of its past.
        warm: Likes of the judged part whose item has a train row, (U, N).
        cold: Those whose item has none, (U, N).
        states: int64 (U,) the interaction whose state holds each user's features as of then.
        vectors: What recommenders by vectors make of each past, float32 (U, D) each.
        data: The whole split as recommenders see it, for those that everything is compared with.
    """

    users: Rows
    liked: list[Rows]
    seen: list[Rows]
    hidden: list[Rows]
    warm: csr_array
    cold: csr_array
    states: Rows
    data: RetrievalData
    vectors: tuple[NDArray[np.float32], ...] = ()

    def __len__(self) -> int:
        return len(self.users)

    @property
    def all(self) -> csr_array:
        """All likes of the judged part, (U, N)."""
        return csr_array(self.warm + self.cold)

    def past(self, number: int) -> dict[str, Rows]:
        """Return a user's past, as the first stage reads it."""
        return {"liked": self.liked[number], "seen": self.seen[number]}

    def user_vectors(self, number: int) -> list[NDArray[np.float32]]:
        """Return a user's vectors, as the first stage reads them."""
        return [table[number] for table in self.vectors]

    def thinned(self, num_users: int) -> Moments:
        """Return at most so many of the users, evenly spread."""
        if len(self) <= num_users:
            return self
        return self.of(np.linspace(0, len(self) - 1, num_users).round().astype(np.int64))

    def of(self, chosen: Rows) -> Moments:
        """Return some of the users, by their places."""
        liked, seen, hidden = ([lists[n] for n in chosen] for lists in (self.liked, self.seen, self.hidden))
        return replace(
            self,
            users=self.users[chosen],
            states=self.states[chosen],
            warm=self.warm[chosen],
            cold=self.cold[chosen],
            liked=liked,
            seen=seen,
            hidden=hidden,
            vectors=tuple(table[chosen] for table in self.vectors),
        )


def moments_of(training_set: TrainingSet, part: Split, length: int, threshold: float = 0.5) -> Moments:
    """Return the users of a part, validation or test, at its beginning.

    The past of the test part holds validation rows too, as it does where a user is served. Held-out items are no part
    of a past, and are not shown again.

    Args:
        training_set: Rows and tables.
        part: The part whose likes are to be found.
        length: Most items of a past.
        threshold: Label from which a row is a like.

    Raises:
        DataError: Train or the part holds no like.
    """
    data = from_training_set(training_set, threshold=threshold, judged=part)
    users = np.flatnonzero(np.diff(data.warm.indptr) + np.diff(data.cold.indptr))
    real = slice(0, training_set.num_states)
    user, item = training_set.user_row[real], training_set.item_row[real].astype(np.int64)
    time, code = training_set.timestamp_us[real], training_set.split_code[real]
    parts = (Split.TRAIN,) if part == Split.VALIDATION else (Split.TRAIN, Split.VALIDATION)
    is_warm = np.bincount(item[code == SPLIT_CODES[Split.TRAIN]], minlength=len(training_set.item_fields))[item] > 0
    known = np.isin(code, [SPLIT_CODES[name] for name in parts]) & is_warm
    is_liked = training_set.label[real] >= threshold
    newest_first = np.lexsort((-item, -time, user))
    first_rows = _first_of(user, time, np.flatnonzero(code == SPLIT_CODES[part]), users)
    return Moments(
        users=users,
        liked=_lists(user, item, newest_first, known & is_liked, users, length),
        seen=_lists(user, item, newest_first, known, users, length),
        hidden=[data.seen.indices[data.seen.indptr[u] : data.seen.indptr[u + 1]].astype(np.int64) for u in users],
        warm=data.warm[users],
        cold=data.cold[users],
        states=training_set.state_row[first_rows].astype(np.int64),
        data=data,
    )


def _first_of(user: NDArray[np.int32], time: NDArray[np.int64], rows: Rows, users: Rows) -> Rows:
    """Return each user's earliest of some rows."""
    rows = rows[np.lexsort((time[rows], user[rows]))]
    return rows[np.searchsorted(user[rows], users)]


def _lists(
    user: NDArray[np.int32], item: Rows, order: Rows, counts: NDArray[np.bool_], users: Rows, length: int
) -> list[Rows]:
    """Return the first `length` items of each user among the rows that count, each item once."""
    rows = order[counts[order]]
    ends = np.searchsorted(user[rows], users, side="right")
    starts = np.searchsorted(user[rows], users)
    return [_once(item[rows[start:end]])[:length] for start, end in zip(starts, ends, strict=True)]


def _once(items: Rows) -> Rows:
    """Return each item once, in the order of first appearance."""
    _, first = np.unique(items, return_index=True)
    return items[np.sort(first)]


def stack(lists: Sequence[Rows], width: int) -> NDArray[np.int64]:
    """Return lists of rows as a matrix, padded with -1 on the right, (U, width)."""
    result = np.full((len(lists), width), -1, np.int64)
    for to, rows in zip(result, lists, strict=True):
        to[: min(width, len(rows))] = rows[:width]
    return result
