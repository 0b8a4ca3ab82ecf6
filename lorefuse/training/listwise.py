"""Ranking losses: a liked row against rows of the same user that were not liked.

Suffixes: ``P`` liked rows, ``n`` negatives of each, ``C`` = 1 + n candidates.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lorefuse.core.errors import DataError


class Opponents:
    """For each liked train row, the same user's rows that were not liked; drawn anew each epoch.

    Args:
        user_row: int (R,).
        label: float (R,); above 0.5 is liked.
        rows: Train rows, int64.

    Raises:
        DataError: No user has both.
    """

    def __init__(self, user_row: NDArray[np.integer], label: NDArray[np.floating], rows: NDArray[np.int64]) -> None:
        liked = label[rows] > 0.5
        negatives = rows[~liked]
        negatives = negatives[np.argsort(user_row[negatives], kind="stable")]
        owners = user_row[negatives]
        positives = rows[liked]
        first = np.searchsorted(owners, user_row[positives], "left")
        count = np.searchsorted(owners, user_row[positives], "right") - first
        usable = count > 0
        if not usable.any():
            raise DataError(
                "A ranking loss needs users with liked and other rows.",
                expected="at least one",
                got="none",
                fix="set training.loss: pointwise, or sample negatives: data.negatives",
            )
        self.positives = torch.from_numpy(positives[usable])
        self.first, self.count = torch.from_numpy(first[usable]), torch.from_numpy(count[usable])
        self.negatives = torch.from_numpy(negatives)

    def draw(self, num_negatives: int, generator: torch.Generator) -> Tensor:
        """Return the epoch's candidates in random order, int64 (P, 1 + n): the liked row first, then its opponents."""
        order = torch.randperm(len(self.positives), generator=generator)
        share_Pn = torch.rand(len(order), num_negatives, generator=generator)
        offset_Pn = (share_Pn * self.count[order].unsqueeze(1)).long()
        against_Pn = self.negatives[self.first[order].unsqueeze(1) + offset_Pn]
        return torch.cat([self.positives[order].unsqueeze(1), against_Pn], dim=1)


def ranking_loss(logits_PC: Tensor) -> Tensor:
    """Return the mean of −log softmax of the first candidate; with two candidates that is BPR, ``−log σ(s⁺ − s⁻)``.

    Args:
        logits_PC: Scores, the liked row's first.

    Source: BPR, arXiv:1205.2618, eq. for BPR-Opt without its regulariser; sampled softmax over a user's own rows,
    which needs no correction for popularity, since negatives are rows that were shown.

    Example:
        >>> round(float(ranking_loss(torch.tensor([[2.0, 2.0]]))), 4)
        0.6931
    """
    liked_P = torch.zeros(len(logits_PC), dtype=torch.int64, device=logits_PC.device)
    return torch.nn.functional.cross_entropy(logits_PC, liked_P)
