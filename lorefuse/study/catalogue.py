"""What a ranker shows when it may choose among all items; `retrieval.metrics` says how wide and how novel that is.

Suffixes: ``U`` users, ``N`` items, ``K`` shown.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.contract import ITEM_TENSORS, USER_TENSORS, Split, Tensor
from lorefuse.features.training_set import TrainingSet
from lorefuse.models.ranker import Ranker, as_inputs

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
    tables = {name: getattr(training_set, name.value) for name in ITEM_TENSORS if training_set.spec.width(name)}
    if Tensor.ITEM_NUMERIC in tables:
        tables[Tensor.ITEM_NUMERIC] = training_set.item_numeric_now
    blocks = [
        ranker.encode_item(
            **as_inputs({name: table[start : start + ITEMS_AT_A_TIME] for name, table in tables.items()})
        )
        for start in range(0, len(training_set.item_fields), ITEMS_AT_A_TIME)
    ]
    seen = _seen(training_set, train, users)
    shown = []
    for start in range(0, len(rows), USERS_AT_A_TIME):
        inputs = as_inputs(training_set.inputs(rows[start : start + USERS_AT_A_TIME]))
        given = {name.value: inputs[name.value] for name in USER_TENSORS if name.value in inputs}
        user = ranker.encode_user(**given)
        scores_UN = torch.cat([ranker.cross_all(user, block) for block in blocks], dim=1)
        scores_UN[seen[start : start + USERS_AT_A_TIME]] = -torch.inf
        shown.append(scores_UN.topk(min(k, scores_UN.shape[1])).indices.numpy())
    return np.concatenate(shown)


def _seen(training_set: TrainingSet, train: NDArray[np.int64], users: NDArray[np.integer]) -> torch.Tensor:
    """Return which items a user has train rows with, bool (U, N)."""
    place = np.full(len(training_set.user_fields), -1)
    place[users] = np.arange(len(users))
    mine = train[place[training_set.user_row[train]] >= 0]
    seen = np.zeros((len(users), len(training_set.item_fields)), dtype=bool)
    seen[place[training_set.user_row[mine]], training_set.item_row[mine]] = True
    return torch.from_numpy(seen)
