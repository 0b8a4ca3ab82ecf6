"""The trained ranker as the second stage asks it: scores of some items for one user of some moments."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.core.schema import Tensor
from lorefuse.features.history import interactions_of, recent_liked
from lorefuse.lists.moments import Moments
from lorefuse.models.ranker import Ranker
from lorefuse.training_set.arrays import TrainingSet

ITEMS_PER_BATCH = PAIRS_PER_BATCH = 4096


class TorchRanking:
    """A ranker, the catalogue's item half computed once, and the users of some moments.

    Args:
        ranker: Trained.
        training_set: The arm's rows and tables that it was trained on.
        moments: The users.
    """

    def __init__(self, ranker: Ranker, training_set: TrainingSet, moments: Moments) -> None:
        self.ranker = ranker.eval()
        self.tensors = tensors_of(ranker, training_set, moments)
        with torch.no_grad():
            self.items = _encoded_items(ranker, training_set)

    @torch.no_grad()
    def __call__(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of some rows of the catalogue for a user, (M,)."""
        user = self.ranker.encode_user(
            **{name: torch.from_numpy(array[number : number + 1]) for name, array in self.tensors.items()}
        )
        chosen = torch.from_numpy(rows)
        side = {name: table.index_select(0, chosen) for name, table in self.items.items()}
        scores = self.ranker.to_score(self.ranker.cross_all(user, side))
        return np.asarray(scores[0].numpy(), dtype=np.float32)

    @torch.no_grad()
    def matrix(self, rows_UW: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of each user's rows of the catalogue, many users at a time, (U, W).

        They are those of `__call__` but for the last bits: a product of other shape adds up in another order.

        Args:
            rows_UW: Rows of the catalogue; -1 is none, and its score says nothing.
        """
        num_users, width = rows_UW.shape
        result = np.zeros(rows_UW.shape, np.float32)
        users_at_once = max(1, PAIRS_PER_BATCH // max(width, 1))
        for start in range(0, num_users if width else 0, users_at_once):
            part = slice(start, start + users_at_once)
            user = self.ranker.encode_user(
                **{name: torch.from_numpy(array[part]) for name, array in self.tensors.items()}
            )
            chosen = torch.from_numpy(rows_UW[part].clip(0)).flatten()
            items = {name: table.index_select(0, chosen) for name, table in self.items.items()}
            users = {name: half.repeat_interleave(width, dim=0) for name, half in user.items()}
            scores = self.ranker.to_score(self.ranker.cross(users, items))
            result[part] = scores.view(-1, width).numpy()
        return result


def tensors_of(ranker: Ranker, training_set: TrainingSet, moments: Moments) -> dict[str, NDArray[np.generic]]:
    """Return the user tensors that a ranker reads, as of the moments, by name, (U, …)."""
    arrays: dict[str, NDArray[np.generic]] = {
        Tensor.USER_FIELDS: training_set.user_fields[moments.users],
        Tensor.USER_NUMERIC: training_set.user_numeric[moments.states],
        Tensor.USER_INTEREST: training_set.user_interest[moments.states],
    }
    if Tensor.USER_HISTORY in ranker.user_inputs:
        length = ranker.spec.history_length
        arrays[Tensor.USER_HISTORY] = recent_liked(interactions_of(training_set), length, moments.states).astype(
            np.int64
        )
    return {name: np.ascontiguousarray(arrays[name]) for name in ranker.user_inputs}


def _encoded_items(ranker: Ranker, training_set: TrainingSet) -> dict[str, torch.Tensor]:
    """Encode the catalogue in blocks, so that memory does not grow with what a layer makes of an item."""
    tables = training_set.item_tables()
    blocks = [
        ranker.encode_item(
            **{
                name: torch.from_numpy(np.ascontiguousarray(tables[name][start : start + ITEMS_PER_BATCH]))
                for name in ranker.item_inputs
            }
        )
        for start in range(0, len(training_set.item_fields), ITEMS_PER_BATCH)
    ]
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
