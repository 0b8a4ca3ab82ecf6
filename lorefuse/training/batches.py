"""A training set as tensors on one device: batches are gathered from tables by row index, without per-row Python.

Suffixes: ``R`` rows, ``B`` batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lorefuse.models.ranker import PAIR, Ranker
from lorefuse.training_set.arrays import TrainingSet


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU fetches it from pinned memory while this process goes on."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Batches:
    """A training set as tensors on one device; batches are gathered from tables by row index.

    Args:
        training_set: The rows.
        device: Where the tensors live.
        ranker: Whose inputs the batches are; what pair numbers replace is not held. None: every tensor is.
        rows: Those that batches are taken from, which alone have pair numbers.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        device: torch.device,
        ranker: Ranker | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.spec = training_set.spec
        pair = None if ranker is None or rows is None else ranker.pair_numbers(training_set, rows)
        replaced = () if ranker is None or pair is None else ranker.replaced_inputs

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
            **{block.tensor: training_set.knowledge[block.name] for block in training_set.spec.knowledge},
        }
        states: dict[str, NDArray[Any]] = {
            "user_numeric": training_set.user_numeric,
            "user_history": training_set.user_history,
        }
        if "user_interest" not in replaced:
            states["user_interest"] = np.asarray(training_set.user_interest)
        of_rows: dict[str, NDArray[Any]] = {"item_numeric": training_set.item_numeric}
        self.user_tables = {k: tensor(v) for k, v in user_tables.items() if v.shape[1]}
        self.item_tables = {k: tensor(v) for k, v in item_tables.items() if v.shape[1]}
        self.state_row = tensor(training_set.state_row)
        self.states = {k: tensor(v) for k, v in states.items() if v.shape[1]}
        self.rows = {k: tensor(v) for k, v in of_rows.items() if v.shape[1]}
        if pair is not None:
            every = torch.zeros(training_set.num_rows, pair.shape[1])
            self.rows[PAIR] = moved(every.index_copy_(0, torch.from_numpy(rows), pair), device)

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
        found = {name: table.index_select(0, at_B) for tables, at_B in gathered for name, table in tables.items()}
        if "user_history" in found:
            found["user_history"] = found["user_history"].long()
        return found
