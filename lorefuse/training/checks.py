"""What a training refuses: rows that teach nothing, and a loss that is no number any more."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from lorefuse.core.errors import DataError, DivergedError
from lorefuse.training_set.arrays import TrainingSet


def check_rows(training_set: TrainingSet, train: Tensor, validation: Tensor) -> None:
    """Raise DataError where there is nothing to train on or to judge by, or all train labels are the same."""
    for name, rows in (("train", train), ("validation", validation)):
        if not len(rows):
            raise DataError(f"There are no {name} rows.", expected="at least one", got="none", fix="bring more data")
    label = training_set.label[train.cpu().numpy()]
    if training_set.spec.label_kind == "binary" and label.min() == label.max():
        raise DataError(
            "All train labels are the same.",
            expected="likes and dislikes",
            got=f"only {label.min():.0f}",
            fix="change data.label.threshold",
        )


def check_finite(train_loss: float, validation_loss: float) -> None:
    """Raise DivergedError where a loss is not finite.

    The validation loss too: a batch's loss is taken before its step, so the last step shows there alone.
    """
    if not np.isfinite(train_loss + validation_loss):
        raise DivergedError(
            "The training loss is not finite.",
            expected="a finite number",
            got=f"{train_loss} (train), {validation_loss} (validation)",
            fix="lower training.learning_rate",
        )
