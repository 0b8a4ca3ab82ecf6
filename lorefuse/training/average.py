"""What a training run keeps beside the ranker: its learning curve and the averaged weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorefuse.models.ranker import Ranker


@dataclass
class History:
    """What happened in a training run.

    Attributes:
        epochs: One dict an epoch: epoch, train_loss, validation_loss, validation_score, elapsed_s, samples_per_s, and
            the ranker's diagnostics.
        best_epoch: The epoch whose weights were kept.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


class WeightAverage:
    """An exponential moving average of a ranker's weights, which is what is judged and kept.

    The decay of step s is min(`decay`, (1 + s) / (10 + s)), so that the first epoch is not an average over its start.

    Args:
        ranker: Trained in place by its owner; constants and tables are fitted.
        decay: 0 keeps the last weights: the ranker itself is judged.

    Attributes:
        ranker: The ranker with averaged weights, in evaluation mode; buffers are shared with the one in training.
        num_updates: Steps taken in.
    """

    def __init__(self, ranker: Ranker, decay: float) -> None:
        self._decay, self.num_updates = decay, 0
        if not decay:
            self.ranker = ranker
            return
        # Fitted constants (a catalogue's vectors, say) do not change in training: neither copied nor averaged.
        shared = {id(buffer): buffer for buffer in ranker.buffers()}
        self.ranker = copy.deepcopy(ranker, shared).eval()
        self._current: list[Tensor] = list(ranker.parameters())
        self._averaged: list[Tensor] = list(self.ranker.parameters())

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        if self._decay:
            step = self.num_updates
            weight = 1 - min(self._decay, (1 + step) / (10 + step)) if step else 1.0
            torch._foreach_lerp_(self._averaged, self._current, weight)
            self.num_updates += 1
