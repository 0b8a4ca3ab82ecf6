"""The tensors of the whole catalogue as serving sees them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from lorefuse.core.schema import ITEM_TENSORS, Tensor
from lorefuse.training_set.arrays import TrainingSet


def item_tables(training_set: TrainingSet) -> dict[str, NDArray[Any]]:
    """Return the item tensors of the whole catalogue as serving sees them, by name; those of width 0 are left out."""
    arrays: dict[Tensor, NDArray[Any]] = {
        Tensor.ITEM_FIELDS: training_set.item_fields,
        Tensor.ITEM_MULTI: training_set.item_multi,
        Tensor.ITEM_NUMERIC: training_set.item_numeric_now,
        Tensor.ITEM_TEXT: training_set.item_text,
        Tensor.ITEM_GRAPH: training_set.item_graph,
    }
    return {name.value: arrays[name] for name in ITEM_TENSORS if training_set.spec.width(name)}
