"""What a training run keeps beside the ranker: its learning curve and the averaged weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorefuse.models.ranker import Ranker


@dataclass
class LearningCurve:
    """What happened in a training run.

    Attributes:
        epochs: One dict an epoch: epoch, train_loss, validation_loss, validation_score, elapsed_s, samples_per_s, and
            the ranker's diagnostics.
        best_epoch: The epoch whose weights were kept.
        privacy: What a training with differential privacy gives away at most, see `private.fit_private`; else None.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    privacy: dict[str, Any] | None = None


class WeightAverage:
    """An exponential moving average of a ranker's weights, which is what is judged and kept.

    The decay of step s is min(`decay`, (1 + s) / (10 + s)), so that the first epoch is not an average over its start.

    Args:
        ranker: Trained in place by its owner; constants and tables are fitted.
        decay: 0 keeps the last weights: the ranker itself is judged.
        apart: Averages of parameters that someone else keeps up, by the parameter's `id`.

    Attributes:
        ranker: The ranker with averaged weights, in evaluation mode; buffers are shared with the one in training.
        num_updates: Steps taken in.
    """

    def __init__(self, ranker: Ranker, decay: float, apart: Mapping[int, nn.Parameter] | None = None) -> None:
        self._decay, self.num_updates = decay, 0
        if not decay:
            self.ranker = ranker
            return
        # Fitted constants (a catalogue's vectors, say) do not change in training: neither copied nor averaged.
        shared: dict[int, Tensor] = {id(buffer): buffer for buffer in ranker.buffers()}
        shared |= apart or {}
        self.ranker = copy.deepcopy(ranker, shared).eval()
        pairs = zip(ranker.parameters(), self.ranker.parameters(), strict=True)
        own = [(current, averaged) for current, averaged in pairs if id(current) not in (apart or {})]
        self._current: list[Tensor] = [current for current, _ in own]
        self._averaged: list[Tensor] = [averaged for _, averaged in own]

    @property
    def weight(self) -> float:
        """The weight that the next step's values get in the average."""
        step = self.num_updates
        return 1 - min(self._decay, (1 + step) / (10 + step)) if step and self._decay else 1.0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        if self._decay:
            torch._foreach_lerp_(self._averaged, self._current, self.weight)
            self.num_updates += 1


def copied_weights(ranker: Ranker) -> dict[str, Tensor]:
    """Return a ranker's state with its weights copied; constants, such as a catalogue's vectors, do not change."""
    learned = {name for name, _ in ranker.named_parameters()}
    return {name: value.clone() if name in learned else value for name, value in ranker.state_dict().items()}
