"""A training set as tensors on one device: batches are gathered from tables by row index, without per-row Python.

Suffixes: ``R`` rows, ``B`` batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lorefuse.features.training_set import TrainingSet


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU fetches it from pinned memory while this process goes on."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Batches:
    """A training set as tensors on one device; batches are gathered from tables by row index.

    Args:
        training_set: The rows.
        device: Where the tensors live.
    """

    def __init__(self, training_set: TrainingSet, device: torch.device) -> None:
        self.spec = training_set.spec

        def tensor(array: NDArray[Any]) -> Tensor:
            return moved(torch.from_numpy(np.ascontiguousarray(array)), device)

        self.user_row, self.item_row = (
            tensor(training_set.user_row),
            tensor(training_set.item_row),
        )
        self.label, self.value = tensor(training_set.label), tensor(training_set.value)
        user_tables: dict[str, NDArray[Any]] = {"user_fields": training_set.user_fields}
        item_tables: dict[str, NDArray[Any]] = {
            "item_fields": training_set.item_fields,
            "item_multi": training_set.item_multi,
            "item_text": training_set.item_text,
            "item_graph": training_set.item_graph,
        }
        states: dict[str, NDArray[Any]] = {
            "user_numeric": training_set.user_numeric,
            "user_interest": training_set.user_interest,
            "user_history": training_set.user_history.astype(np.int64),
        }
        rows: dict[str, NDArray[Any]] = {"item_numeric": training_set.item_numeric}
        self.user_tables = {k: tensor(v) for k, v in user_tables.items() if v.shape[1]}
        self.item_tables = {k: tensor(v) for k, v in item_tables.items() if v.shape[1]}
        self.state_row = tensor(training_set.state_row)
        self.states = {k: tensor(v) for k, v in states.items() if v.shape[1]}
        self.rows = {k: tensor(v) for k, v in rows.items() if v.shape[1]}

    def of_items(self, items_B: Tensor) -> dict[str, Tensor]:
        """Return those inputs that items have by themselves, whatever the row."""
        return {name: table.index_select(0, items_B) for name, table in self.item_tables.items()}

    def inputs(self, rows_B: Tensor) -> dict[str, Tensor]:
        """Return the ranker's keyword inputs for some rows."""
        users_B, items_B = self.user_row.index_select(0, rows_B), self.item_row.index_select(0, rows_B)
        states_B = self.state_row.index_select(0, rows_B) if self.states else rows_B
        gathered = (
            (self.user_tables, users_B),
            (self.states, states_B),
            (self.item_tables, items_B),
            (self.rows, rows_B),
        )
        # index_select copies whole rows; table[rows] costs five times as much on a CPU
        return {name: table.index_select(0, at_B) for tables, at_B in gathered for name, table in tables.items()}
