"""The contrastive objective of fine-tuning. Suffixes: ``B`` pairs of a batch, ``H`` width of a vector."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def info_nce(anchor_BH: Tensor, positive_BH: Tensor, is_false_BB: Tensor, temperature: float) -> Tensor:
    """Contrast each pair with the other pairs of its batch, from both sides (InfoNCE, arXiv:1807.03748).

    Args:
        anchor_BH: Unit vectors.
        positive_BH: Unit vectors; row n belongs to anchor n.
        is_false_BB: Anchor-positive combinations that are no negatives, though another pair brought them.
        temperature: Divides the cosines.

    Returns:
        The mean loss, a scalar.

    Example:
        >>> one = torch.eye(2)
        >>> round(info_nce(one, one, torch.zeros(2, 2, dtype=torch.bool), 1.0).item(), 4)  # ln(1 + 1/e)
        0.3133
    """
    logits_BB = (anchor_BH @ positive_BH.T / temperature).masked_fill(is_false_BB, float("-inf"))
    labels_B = torch.arange(len(logits_BB), device=logits_BB.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits_BB, labels_B) + cross_entropy(logits_BB.T, labels_B)) / 2


class Pairs:
    """Batches of liked-together items, and which of their combinations must not count as negatives.

    Args:
        pairs: int64 (P, 2), sorted within a pair, from `consumption.co_liked_pairs`.
        text_id: int64 (N,), equal for items of equal text: an encoder cannot tell them apart.
        seed: Of the order and of which side is the anchor.
    """

    def __init__(self, pairs: NDArray[np.int64], text_id: NDArray[np.int64], seed: int) -> None:
        self.pairs, self.text_id = pairs, text_id
        self._keys = np.unique(self._key(pairs[:, 0], pairs[:, 1]))
        self._rng = np.random.default_rng(seed)
        self._waiting = np.zeros(0, dtype=np.int64)

    def batch(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return item rows of anchors and positives, (B,) each; every pair comes once before any comes again."""
        while len(self._waiting) < size:
            self._waiting = np.concatenate([self._waiting, self._rng.permutation(len(self.pairs))])
        rows, self._waiting = self._waiting[:size], self._waiting[size:]
        swap = self._rng.random(size) < 0.5
        anchor, positive = self.pairs[rows].T
        return np.where(swap, positive, anchor), np.where(swap, anchor, positive)

    def false_negatives(self, anchor: NDArray[np.int64], positive: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (B, B): off the diagonal, combinations of one text or of items that somebody liked together."""
        first, second = anchor[:, None], positive[None, :]
        same_text = self.text_id[first] == self.text_id[second]
        liked_together = np.isin(self._key(np.minimum(first, second), np.maximum(first, second)), self._keys)
        found: NDArray[np.bool_] = (same_text | liked_together) & ~np.eye(len(anchor), dtype=bool)
        return found

    def _key(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        return first * len(self.text_id) + second
