"""What every ranker must offer: a user half, an item half, and a cross of the two.

Because each half is encoded on its own, the item half of a whole catalogue can be computed once and kept inside the
served graph, and scoring a user against all items costs one `Ranker.cross_all`. The split is exact: `forward` is
`cross(encode_user(...), encode_item(...))`, and `cross_all` holds the same numbers for every pair.

Suffixes: ``B`` rows, ``N`` catalogue items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lorefuse.core.errors import UsageError
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec

SideTensors = dict[str, Tensor]
"""An encoded half: named tensors whose first dimension is the row (or the catalogue item)."""
PAIR = "pair"
"""Input of a training's batches, and entry of their user halves: what `Ranker.pair_numbers` says of each row."""


class Ranker(nn.Module, ABC):
    """Base class of all rankers.

    Args:
        spec: Names and widths of the inputs.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        self.user_inputs, self.item_inputs = spec.user_tensors, spec.item_tensors

    @abstractmethod
    def encode_user(
        self,
        user_fields: Tensor,
        user_numeric: Tensor | None = None,
        user_interest: Tensor | None = None,
        user_history: Tensor | None = None,
    ) -> SideTensors:
        """Encode the user half; inputs as described at `contract.Tensor`, absent where their width is 0."""

    @abstractmethod
    def encode_item(
        self,
        item_fields: Tensor,
        item_multi: Tensor | None = None,
        item_numeric: Tensor | None = None,
        **knowledge: Tensor,
    ) -> SideTensors:
        """Encode the item half; inputs as described at `schema.Tensor`, absent where their width is 0.

        Knowledge blocks come by the names of their tensors, e.g. ``item_text``.
        """

    @abstractmethod
    def cross(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Score user row b with item row b: logits of shape (B,)."""

    @abstractmethod
    def cross_all(self, user: SideTensors, item: SideTensors) -> Tensor:
        """Score every user row with every item: logits of shape (B, N)."""

    def cross_lists(self, user: SideTensors, item: SideTensors, length: int) -> Tensor:
        """Score each user with a list of items of their own: logits (B, C).

        Args:
            user: B users.
            item: B · C items, a user's next to each other.
            length: C.
        """
        rows = {name: value.repeat_interleave(length, dim=0) for name, value in user.items()}
        return self.cross(rows, item).view(-1, length)

    @abstractmethod
    def prepare(self, training_set: TrainingSet) -> None:
        """Fit constants (means, deviations, tables of the catalogue) on train rows; called once, before training."""

    def pair_numbers(self, training_set: TrainingSet, rows: NDArray[np.int64]) -> Tensor | None:
        """Return numbers of rows' users and items that no weight takes part in, (B, Z); None where there are none.

        A batch that carries them as the input `PAIR` may leave out the tensors of `replaced_inputs`.

        Args:
            training_set: The rows, with the history that the ranker reads.
            rows: Positions of the B rows.
        """
        return None

    @property
    def replaced_inputs(self) -> tuple[str, ...]:
        """Inputs that a batch with pair numbers does without."""
        return ()

    @property
    def has_auxiliary_loss(self) -> bool:
        """Whether training adds to the loss of a batch what is no mean over its rows (an alignment loss)."""
        return getattr(self, "alignment", None) is not None

    def auxiliary_loss(self, inputs: dict[str, Tensor]) -> Tensor | None:
        """Return what training adds to the loss of a batch; None where there is nothing. Inputs as for `forward`."""
        return None

    def loss(self, inputs: dict[str, Tensor], label_B: Tensor, value_B: Tensor) -> Tensor:
        """Return the training loss of a batch: `row_loss`, plus `auxiliary_loss` where there is one.

        Args:
            inputs: As for `forward`.
            label_B: 0/1, or the value for a regression.
            value_B: Rating or event value, for families that learn more than one task.
        """
        loss = self.row_loss(inputs, label_B, value_B)
        extra = self.auxiliary_loss(inputs)
        return loss if extra is None else loss + extra

    def row_loss(self, inputs: dict[str, Tensor], label_B: Tensor, value_B: Tensor) -> Tensor:
        """Return the part of the loss that is a mean over rows: cross-entropy (binary) or squared error."""
        return self.label_loss(self(**inputs), label_B)

    def label_loss(self, logits_B: Tensor, label_B: Tensor) -> Tensor:
        """Return the mean loss of logits against labels."""
        of = (
            nn.functional.binary_cross_entropy_with_logits
            if self.spec.label_kind == "binary"
            else nn.functional.mse_loss
        )
        return of(logits_B, label_B)

    def diagnostics(self, inputs: dict[str, Tensor]) -> dict[str, float]:
        """Return figures to watch in training, by name (a gate's mean, say); inputs as for `forward`."""
        return {}

    @abstractmethod
    def embedding_parameters(self) -> list[nn.Parameter]:
        """Return the embedding tables, which get their own L2 penalty; all other parameters are dense."""

    def forward(self, **inputs: Tensor) -> Tensor:
        """Score rows given as keyword tensors named by `contract.Tensor`.

        Returns:
            Logits (before the sigmoid), shape (B,); for regression the value itself.

        Raises:
            UsageError: An input is missing, or unknown to the model.
        """
        self.check_inputs(inputs)
        return self.cross(*self.halves(inputs))

    def halves(self, inputs: Mapping[str, Tensor]) -> tuple[SideTensors, SideTensors]:
        """Return both encoded halves of rows; inputs as for `forward`, those of a batch with their pair numbers."""
        user = self.encode_user(**{name: inputs[name] for name in self.user_inputs if name in inputs})
        item = self.encode_item(**{name: inputs[name] for name in self.item_inputs})
        return (user | {PAIR: inputs[PAIR]} if PAIR in inputs else user), item

    def check_inputs(self, inputs: Mapping[str, Tensor]) -> None:
        """Raise UsageError where an input is missing, or unknown to the model."""
        wanted = {*self.user_inputs, *self.item_inputs}
        if PAIR in inputs:
            wanted = wanted.difference(self.replaced_inputs) | {PAIR}
        if wanted != inputs.keys():
            raise UsageError(
                "The ranker got other inputs than its spec names.",
                expected=str(sorted(wanted)),
                got=str(sorted(inputs)),
            )

    def to_score(self, logits: Tensor) -> Tensor:
        """Turn logits into what users see: a probability for a binary label, the value for regression."""
        return torch.sigmoid(logits) if self.spec.label_kind == "binary" else logits


def as_inputs(arrays: Mapping[str, object]) -> dict[str, Tensor]:
    """Turn numpy arrays by name into keyword tensors for `Ranker.forward`."""
    return {name: torch.as_tensor(array) for name, array in arrays.items()}
