"""Each like of a train matrix with the ones before it, which is what a user tower reads in training.

Suffixes: ``R`` likes, ``B`` likes of a batch, ``L`` history length, ``U`` users, ``N`` items.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor


class PastLikes:
    """Likes, users and times ascending; what came before some of them is looked up when it is asked for.

    A table of all pasts would be L times as large as the likes themselves: 1.2 GB for 5 million likes and L = 20.

    Args:
        train_UN: Likes.
        time: Of each stored entry.
        length: L, the most recent ones are kept.
        half_life: After how many later likes a like counts half; None: all count the same.

    Attributes:
        user: Rows of the users, int64 (R,).
        item: Rows of the items, int64 (R,).
    """

    def __init__(self, train_UN: csr_array, time: NDArray[np.float64], length: int, half_life: float | None) -> None:
        users = np.repeat(np.arange(train_UN.shape[0]), np.diff(train_UN.indptr))
        order = np.lexsort((time, users))  # users are sorted already: their rows stay in their place
        self.user = torch.from_numpy(users.astype(np.int64))
        self.item = torch.from_numpy(train_UN.indices[order].astype(np.int64))
        self._first_of_user = torch.from_numpy(train_UN.indptr.astype(np.int64))
        self._back = torch.arange(1, length + 1)
        weight_L = np.ones(length) if half_life is None else 0.5 ** (np.arange(length) / half_life)
        weights = np.tri(length + 1, length, -1) * weight_L  # row n: of a like with n before it
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        self._weights = torch.from_numpy(weights.astype(np.float32))

    def of(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of earlier items, most recent first and padded with 0, and their weights, (B, L) each.

        The weights sum to 1, or are all 0 for a user's first like.
        """
        num_before_B = rows_B - self._first_of_user[self.user[rows_B]]
        at_BL = (rows_B[:, None] - self._back).clamp_(min=0)
        past_BL = torch.where(self._back <= num_before_B[:, None], self.item[at_BL], 0)
        return past_BL, self._weights[num_before_B.clamp(max=len(self._back))]
