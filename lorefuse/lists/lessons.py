"""Lists that a ranker learns from: what the first stage would have shown at moments inside the train part.

The first stage was fitted on these very likes. So each user's moments are looked at by tables of other users alone, and
the items' numbers are those of other users too: nothing that is to be found has been counted.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``L`` lessons, ``C`` items of a lesson.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from torch import Tensor

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.features.aggregates import ITEM_NUMERIC
from lorefuse.features.history import interactions_of
from lorefuse.features.prior import ItemPrior
from lorefuse.features.rows import item_numeric_now
from lorefuse.lists.blend import collect, scored
from lorefuse.lists.fit import make_tables, unfitted
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.moments import Moments, once
from lorefuse.lists.near import Vectors
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.two_stage import Candidates
from lorefuse.training_set.arrays import TrainingSet

NUM_FOLDS = 2
"""Parts of the users; the tables that look at one come from the others."""
NUM_HARD, NUM_DRAWN = 30, 18
"""Items of a lesson: its likes and those that some view puts on top, and others drawn evenly."""
MIN_PAST, PERIODS = 3, 8
"""Rows before a moment; its likes are those among the next eighth of the user's train rows."""
MIN_LESSONS = 50
"""A ranker learns nothing from fewer."""


@dataclass(frozen=True)
class Lessons:
    """Moments with the items that were looked at.

    Attributes:
        rows: int64 (L, C) catalogue rows.
        offset: float32 (L, C): the blend's score, and what makes up for drawing; -inf where an item may not be shown.
        share: float32 (L, C), each like's share of its lesson's likes.
        users: int64 (L,) rows of the user table.
        states: int64 (L,) the interaction whose state holds the user's features as of then.
        fold: int64 (L,) part of the users.
        item_numeric: float32 (folds, N, Pi), the items' numbers without the rows of a fold's users.
    """

    rows: Tensor
    offset: Tensor
    share: Tensor
    users: Tensor
    states: Tensor
    fold: Tensor
    item_numeric: Tensor

    def __len__(self) -> int:
        return len(self.rows)


def of_others(taken_UN: csr_array, fold: int) -> csr_array:
    """Return what the users outside a fold took, (U, N)."""
    others = (np.arange(taken_UN.shape[0]) % NUM_FOLDS != fold).astype(np.float32)
    result = csr_array(diags_array(others) @ taken_UN)
    result.eliminate_zeros()
    return result


def make_lessons(
    blended: Fitted,
    training_set: TrainingSet,
    taken_UN: csr_array,
    folds: Sequence[Mapping[str, csr_array]],
    blocks: Mapping[str, Vectors],
    config: CandidatesConfig,
    threshold: float,
    like: Moments,
    seed: int,
) -> Lessons | None:
    """Return lessons of moments spread over all users; None where there are too few.

    Views that read a whole past, which have seen these likes too, are left out of the scores.

    Args:
        blended: The blend, with its weights.
        training_set: The arm's rows.
        taken_UN: What users took in train.
        folds: `tables.collaborative_tables` of `of_others`, for each fold.
        blocks: What is known about the items.
        config: Numbers of lessons and past items.
        threshold: Label from which a row is a like.
        like: Any moments of the same data.
        seed: Of the choice of moments and of the draws.
    """
    moments = train_moments(training_set, like, config.num_lessons, config.history_length, threshold, seed)
    is_new = torch.from_numpy(np.asarray(blended.arrays["is_new"], bool))
    parts, users = [], []
    for fold, collaborative in enumerate(folds):
        mine = moments.chosen(np.flatnonzero(moments.users % NUM_FOLDS == fold))
        if not len(mine):
            continue
        others_UN = of_others(taken_UN, fold)
        knowledge = ItemKnowledge.of(others_UN, blocks, config)
        candidates = _of_fold(blended, others_UN, collaborative, knowledge, config)
        examples = collect(candidates, mine, seed, NUM_HARD, NUM_DRAWN)
        weights, biases = (torch.from_numpy(array) for array in (candidates.weights, candidates.biases))
        offset = scored(examples, weights, biases) + examples.offset
        parts.append((examples.rows, offset.masked_fill(is_new[examples.rows], -torch.inf), examples.share))
        users.append(mine)
    if sum(len(mine) for mine in users) < MIN_LESSONS:
        return None
    rows, offset, share = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    of_user, states = (np.concatenate([getattr(mine, name) for mine in users]) for name in ("users", "states"))
    return Lessons(
        rows=rows,
        offset=offset,
        share=share,
        users=torch.from_numpy(of_user),
        states=torch.from_numpy(states),
        fold=torch.from_numpy(of_user % NUM_FOLDS),
        item_numeric=torch.from_numpy(np.stack([_item_numeric(training_set, fold) for fold in range(NUM_FOLDS)])),
    )


def _of_fold(
    blended: Fitted,
    taken_UN: csr_array,
    collaborative: Mapping[str, csr_array],
    knowledge: ItemKnowledge,
    config: CandidatesConfig,
) -> Candidates:
    """Return the blend over a fold's tables; items that nobody else took stand where knowledge puts them."""
    facts = blended.facts
    tables = make_tables(collaborative, knowledge, config)
    start = unfitted(tables, taken_UN, config, facts["num_returned"], facts["label_kind"])
    num_scores, num_kept = blended.arrays["weights"].shape[1] // 2, start.arrays["weights"].shape[1] // 2
    kept = np.concatenate([np.arange(num_kept), num_scores + np.arange(num_kept)])
    learned = {"weights": np.ascontiguousarray(blended.arrays["weights"][:, kept]), "biases": blended.arrays["biases"]}
    # Whoever is new to these users is not new to the blend.
    return Candidates({**start.arrays, **learned, "is_new": blended.arrays["is_new"]}, start.facts)


def train_moments(
    training_set: TrainingSet, like: Moments, num_moments: int, length: int, threshold: float, seed: int
) -> Moments:
    """Return moments inside the train part: each right before a like, with the likes of the time that follows.

    Args:
        training_set: Rows and tables.
        like: Any moments of the same data.
        num_moments: At most so many, drawn evenly over users first and over their likes second.
        length: Most items of a past.
        threshold: Label from which a row is a like.
        seed: Of the draw.
    """
    real = slice(0, training_set.num_states)
    user, item = training_set.user_row[real], training_set.item_row[real].astype(np.int64)
    time, label = training_set.timestamp_us[real], training_set.label[real]
    rows = np.flatnonzero(training_set.split_code[real] == SPLIT_CODES[Split.TRAIN])
    rows = rows[np.lexsort((rows, time[rows], user[rows]))]
    first = np.searchsorted(user[rows], user[rows])
    last = np.searchsorted(user[rows], user[rows], side="right")
    # Rows of one moment are no past of each other.
    block = np.concatenate([[True], (user[rows][1:] != user[rows][:-1]) | (time[rows][1:] != time[rows][:-1])])
    cut = np.maximum.accumulate(np.where(block, np.arange(len(rows)), 0))
    asked = np.flatnonzero((label[rows] >= threshold) & (cut - first >= MIN_PAST))
    asked = asked[_spread(user[rows][asked], num_moments, seed)]
    past, liked, targets = [], [], []
    for at in asked:
        before = rows[first[at] : cut[at]][::-1]
        period = rows[cut[at] : min(cut[at] + max(1, (last[at] - first[at]) // PERIODS), last[at])]
        period = np.append(period, rows[at])
        past.append(once(item[before]))
        liked.append(once(item[before][label[before] >= threshold])[:length])
        targets.append(np.setdiff1d(item[period][label[period] >= threshold], past[-1]))
    counts = np.array([len(found) for found in targets], np.int64)
    columns = np.concatenate([*targets, np.zeros(0, np.int64)])
    shape = (len(asked), len(training_set.item_fields))
    found = csr_array(
        (np.ones(len(columns), np.float32), columns, np.concatenate([[0], np.cumsum(counts)])), shape=shape
    )
    moments = dataclasses.replace(
        like,
        users=user[rows[asked]].astype(np.int64),
        liked=liked,
        seen=[items[:length] for items in past],
        hidden=past,
        warm=found,
        cold=csr_array(shape, dtype=np.float32),
        states=rows[asked],
        fields=training_set.user_fields[user[rows[asked]]].astype(np.int64),
        interest=None,  # the views that read it are left out
        encoded={},
    )
    return moments.chosen(np.flatnonzero(counts))


def _spread(owner: NDArray[np.integer], num_wanted: int, seed: int) -> NDArray[np.int64]:
    """Return positions of at most so many, everybody's first before anybody's second, in order."""
    order = np.random.default_rng(seed).permutation(len(owner))
    by_owner = order[np.argsort(owner[order], kind="stable")]
    number = np.arange(len(owner)) - np.searchsorted(owner[by_owner], owner[by_owner])
    return np.sort(by_owner[np.argsort(number, kind="stable")][:num_wanted])


def _item_numeric(training_set: TrainingSet, fold: int) -> NDArray[np.float32]:
    """Return the items' numbers as they would be without a fold's users, (N, Pi)."""
    now = training_set.item_numeric_now
    if now.shape[1] < len(ITEM_NUMERIC):
        return now
    history = interactions_of(training_set)
    history = dataclasses.replace(history, is_train=history.is_train & (history.user_row % NUM_FOLDS != fold))
    nothing = np.zeros(0, np.float32)
    counted = item_numeric_now(history, ItemPrior(nothing, nothing, now[:, len(ITEM_NUMERIC) - 1]))
    return np.concatenate([counted, now[:, len(ITEM_NUMERIC) :]], axis=1).astype(np.float32)
