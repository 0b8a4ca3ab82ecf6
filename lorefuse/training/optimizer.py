"""The optimiser of a ranker: Adam with decoupled decay and a moving average of the weights, dense or by rows.

A dense step moves every row of every table: 0.13 s of a core for a million rows. Tables of more than `BY_ROWS_ABOVE`
rows are moved by rows instead (`row_table`), to the same weights but for what `elapsed` says. Smaller ones stay dense,
where that is no slower.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from lorefuse.config import TrainingConfig
from lorefuse.models.layers import FusedEmbedding
from lorefuse.models.ranker import Ranker
from lorefuse.training.elapsed import BETA_1, BETA_2, EPSILON, Elapsed
from lorefuse.training.ema import WeightAverage
from lorefuse.training.row_table import Exchange, RowTable

BY_ROWS_ABOVE = 30_000
"""Rows of a table from which on its steps go by rows; `benchmarks/table_rows.py` measures it."""


class Optimizer:
    """Adam with decoupled decay, tables by `embedding_l2`, everything else by `weight_decay`; and the moving average.

    Args:
        ranker: Trained in place, on its device; between `settle` and the next step it is what dense steps would give.
        config: Step size, penalties, averaging. A compiled step is dense throughout.

    Attributes:
        average: The moving average.
        tables: Those that are moved by rows, by parameter name.
        exchange: Brings in the rows of other processes, where a training is shared.
    """

    def __init__(self, ranker: Ranker, config: TrainingConfig) -> None:
        layers = {} if config.compiled else large_tables(ranker)
        device = next(ranker.parameters()).device
        self._elapsed = Elapsed(config.learning_rate, config.embedding_l2, device)
        sizes = {"learning_rate": config.learning_rate, "decay": config.embedding_l2}
        self.tables = {name: RowTable(layer.table, self._elapsed, **sizes) for name, layer in layers.items()}
        averaged = {id(table.table): table.averaged for table in self.tables.values()}
        self.average = WeightAverage(ranker, config.ema_decay, averaged)
        self._layers = list(layers.values())
        for layer, table in zip(self._layers, self.tables.values(), strict=True):
            layer.pull = table.pull
        self.exchange: Exchange | None = None
        self.num_steps = 0
        self._dense = dense_optimizer(ranker, config, {id(table.table) for table in self.tables.values()})

    def step(self, loss: Tensor) -> None:
        """Move the weights by the gradient of a loss, and take them into the average."""
        self._dense.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._dense.step()
        self.num_steps += 1
        for table in self.tables.values():
            table.step(self.num_steps, self.average.weight, self.exchange)
        if self.tables:
            self._elapsed.advance(self.num_steps, self.average.weight)
        self.average.update()

    def settle(self) -> None:
        """Bring all rows of all tables to the present: before whole tables are read, judged or written."""
        for table in self.tables.values():
            table.settle()
        self._elapsed.restart()

    def release(self) -> None:
        """Leave the ranker as plain modules again."""
        for layer, table in zip(self._layers, self.tables.values(), strict=True):
            layer.pull = None
            table.release()

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps beside weights and average, by name; to be asked for after `settle`."""
        tensors = {"num_steps": torch.tensor(self.num_steps)}
        for number, state in self._dense.state_dict()["state"].items():
            tensors |= {f"dense.{number}.{name}": value for name, value in state.items()}
        for owner, table in self.tables.items():
            tensors |= {f"rows.{owner}.{name}": value for name, value in table.state().items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take what `state` gave.

        Raises:
            KeyError: It is another optimiser's.
        """
        self.num_steps = int(tensors["num_steps"])
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("dense."):
                _, number, key = name.split(".", 2)
                states.setdefault(int(number), {})[key] = value
        self._dense.load_state_dict({"state": states, "param_groups": self._dense.state_dict()["param_groups"]})
        for owner, table in self.tables.items():
            table.restore({name: tensors[f"rows.{owner}.{name}"] for name in table.state()})


def dense_optimizer(ranker: Ranker, config: TrainingConfig, apart: Collection[int] = ()) -> torch.optim.AdamW:
    """Return Adam with decoupled decay, tables by `embedding_l2`, everything else by `weight_decay`.

    Args:
        ranker: Whose parameters it moves.
        config: Step size and penalties.
        apart: `id` of tables that someone else moves.
    """
    tables = ranker.embedding_parameters()
    known = {id(parameter) for parameter in tables}
    groups = [
        {"params": [p for p in tables if id(p) not in apart], "weight_decay": config.embedding_l2},
        {"params": [p for p in ranker.parameters() if id(p) not in known], "weight_decay": config.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(BETA_1, BETA_2), eps=EPSILON, fused=True)


def large_tables(ranker: Ranker) -> dict[str, FusedEmbedding]:
    """Return the layers whose tables have more than `BY_ROWS_ABOVE` rows, by the names of their parameters."""
    layers = {name: module for name, module in ranker.named_modules() if isinstance(module, FusedEmbedding)}
    return {f"{name}.table": layer for name, layer in layers.items() if len(layer.table) > BY_ROWS_ABOVE}
