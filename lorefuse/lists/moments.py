"""Users at the moment when a part of a split begins: what is known of them, and what is to be found.

Suffixes: ``U`` users judged, ``N`` items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.schema import CONTEXT_TEXT, SPLIT_CODES, Split
from lorefuse.retrieval.data import RetrievalData, from_training_set
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec

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
        fields: int64 (U, fields) what each user is, as `user_fields`.
        interest: float32 (U, V) `user_interest` as of then; None where no view reads it: where nobody asks anything.
        encoded: What the encoders make of each past, by name, float32 (U, D) each.
        data: The whole split as recommenders see it, for those that everything is compared with.
    """

    users: Rows
    liked: list[Rows]
    seen: list[Rows]
    hidden: list[Rows]
    warm: csr_array
    cold: csr_array
    states: Rows
    fields: NDArray[np.int64]
    data: RetrievalData
    interest: NDArray[np.float32] | None = None
    encoded: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    @property
    def all(self) -> csr_array:
        """All likes of the judged part, (U, N)."""
        return csr_array(self.warm + self.cold)

    def past(self, number: int) -> dict[str, NDArray[Any]]:
        """Return a user's past, as the first stage reads it."""
        past = {"liked": self.liked[number], "seen": self.seen[number], "user": self.fields[number]}
        return past if self.interest is None else {**past, "interest": self.interest[number]}

    def user_vectors(self, number: int) -> dict[str, NDArray[np.float32]]:
        """Return what the encoders make of a user's past, as the first stage reads it."""
        return {name: table[number] for name, table in self.encoded.items()}

    def thinned(self, num_users: int) -> Moments:
        """Return at most so many of the users, evenly spread."""
        if len(self) <= num_users:
            return self
        return self.chosen(np.linspace(0, len(self) - 1, num_users).round().astype(np.int64))

    def chosen(self, chosen: Rows) -> Moments:
        """Return some of the users, by their positions."""
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
            fields=self.fields[chosen],
            interest=None if self.interest is None else self.interest[chosen],
            encoded={name: table[chosen] for name, table in self.encoded.items()},
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
    states = training_set.state_row[first_rows].astype(np.int64)
    return Moments(
        users=users,
        liked=_lists(user, item, newest_first, known & is_liked, users, length),
        seen=_lists(user, item, newest_first, known, users, length),
        hidden=[data.seen.indices[data.seen.indptr[u] : data.seen.indptr[u + 1]].astype(np.int64) for u in users],
        warm=data.warm[users],
        cold=data.cold[users],
        states=states,
        fields=training_set.user_fields[users].astype(np.int64),
        interest=None if asked_columns(training_set.spec) is None else training_set.user_interest[states],
        data=data,
    )


def asked_columns(spec: FeatureSpec) -> slice | None:
    """Return the columns of `user_interest` that hold what the user asked; None where nobody asks anything."""
    start = 0
    for facet in spec.interest:
        if facet.name == CONTEXT_TEXT:
            return slice(start, start + facet.dim)
        start += facet.dim
    return None


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
    return [once(item[rows[start:end]])[:length] for start, end in zip(starts, ends, strict=True)]


def once(items: Rows) -> Rows:
    """Return each item once, in the order of first appearance."""
    _, first = np.unique(items, return_index=True)
    return items[np.sort(first)]


def stack(lists: Sequence[Rows], width: int) -> NDArray[np.int64]:
    """Return lists of rows as a matrix, padded with -1 on the right, (U, width)."""
    result = np.full((len(lists), width), -1, np.int64)
    for to, rows in zip(result, lists, strict=True):
        to[: min(width, len(rows))] = rows[:width]
    return result
