"""What a ranker shows when it may choose among all items; `retrieval.metrics` says how wide and how novel that is.

Suffixes: ``U`` users, ``N`` items, ``K`` shown.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.core.schema import Split
from lorefuse.models.ranker import Ranker, SideTensors, as_inputs
from lorefuse.training_set.arrays import TrainingSet

USERS_AT_A_TIME, ITEMS_AT_A_TIME = 8, 2048


@torch.no_grad()
def top_items(ranker: Ranker, training_set: TrainingSet, num_users: int, k: int) -> NDArray[np.int64]:
    """Return the item rows that a sample of test users would be shown, int64 (U, K), seen ones left out.

    The sample is spread evenly over the users of the test part and the same for every ranker; a user is taken as of
    their first test row.

    Args:
        ranker: In evaluation mode.
        training_set: The rows that it was trained on, its history included.
        num_users: Users at most.
        k: K, at most the number of items.
    """
    test, train = training_set.rows_of(Split.TEST), training_set.rows_of(Split.TRAIN)
    users, first = np.unique(training_set.user_row[test], return_index=True)
    chosen = np.unique(np.linspace(0, len(users) - 1, min(num_users, len(users))).round().astype(np.int64))
    rows, users = test[first[chosen]], users[chosen]
    tables = training_set.item_tables()
    parts = [rows[start : start + USERS_AT_A_TIME] for start in range(0, len(rows), USERS_AT_A_TIME)]
    halves = [_user_half(ranker, training_set, part) for part in parts]
    seen = _seen(training_set, train, users)
    best = [(torch.empty(len(part), 0), torch.empty(len(part), 0, dtype=torch.int64)) for part in parts]
    # Items pass by once, block by block: an encoded item may be thousands of numbers wide.
    for start in range(0, len(training_set.item_fields), ITEMS_AT_A_TIME):
        inputs = as_inputs({name: table[start : start + ITEMS_AT_A_TIME] for name, table in tables.items()})
        block = ranker.encode_item(**inputs)
        for number, user in enumerate(halves):
            scores_BM = ranker.cross_all(user, block)
            columns = slice(start, start + scores_BM.shape[1])
            scores_BM[seen[number * USERS_AT_A_TIME : (number + 1) * USERS_AT_A_TIME, columns]] = -torch.inf
            best[number] = _better(*best[number], scores_BM, start, k)
    return np.concatenate([items_BK.numpy() for _, items_BK in best])


def _user_half(ranker: Ranker, training_set: TrainingSet, rows: NDArray[np.int64]) -> SideTensors:
    inputs = as_inputs(training_set.inputs(rows))
    return ranker.encode_user(**{name: inputs[name] for name in training_set.spec.user_tensors})


def _better(
    scores_BK: torch.Tensor, items_BK: torch.Tensor, scores_BM: torch.Tensor, first: int, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best of those kept so far and of a block's scores, whose items begin at `first`: (B, K) each."""
    every = torch.cat([scores_BK, scores_BM], dim=1)
    found = every.topk(min(k, every.shape[1]))
    rows_BM = torch.arange(first, first + scores_BM.shape[1]).expand_as(scores_BM)
    return found.values, torch.cat([items_BK, rows_BM], dim=1).gather(1, found.indices)


def _seen(training_set: TrainingSet, train: NDArray[np.int64], users: NDArray[np.integer]) -> torch.Tensor:
    """Return which items a user has train rows with, bool (U, N)."""
    place = np.full(len(training_set.user_fields), -1)
    place[users] = np.arange(len(users))
    mine = train[place[training_set.user_row[train]] >= 0]
    seen = np.zeros((len(users), len(training_set.item_fields)), dtype=bool)
    seen[place[training_set.user_row[mine]], training_set.item_row[mine]] = True
    return torch.from_numpy(seen)
