"""The catalogue inside a model that reads histories: what a past item's row number stands for.

Suffixes: ``N`` items, ``L`` history length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorefuse.training_set.arrays import TrainingSet


class Catalogue(nn.Module):
    """Encoded ids and knowledge vectors of all items, with a row of padding first: row of item n is n + 1.

    Its tensors are saved with the weights, so a model version can be served with nothing else, and take their size
    from what is loaded.

    Args:
        names: Item tensors with knowledge, e.g. ``("item_text",)``.
        widths: Their widths.
    """

    fields: Tensor

    def __init__(self, names: Sequence[str], widths: Sequence[int]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("fields", torch.zeros(1, 1, dtype=torch.int64))
        for name, width in zip(names, widths, strict=True):
            self.register_buffer(name, torch.zeros(1, width))

    def fill(self, training_set: TrainingSet) -> None:
        """Take the item tables of a training set."""
        padded = np.concatenate([[0], training_set.item_fields[:, 0]])[:, None]
        self.fields = torch.from_numpy(padded.astype(np.int64)).to(self.fields.device)
        for name in self.names:
            table = training_set.item_table(name)
            rows = np.concatenate([np.zeros((1, table.shape[1]), np.float32), table]).astype(np.float32)
            setattr(self, name, torch.from_numpy(rows).to(self.fields.device))

    def part(self, rows_n: Tensor) -> Catalogue:
        """Return some rows as a catalogue of their own."""
        part = Catalogue(self.names, [getattr(self, name).shape[1] for name in self.names])
        for name in ("fields", *self.names):
            setattr(part, name, getattr(self, name).index_select(0, rows_n))
        return part

    @property
    def knowledge(self) -> list[Tensor]:
        """Knowledge tables, (N + 1, E) each."""
        return [getattr(self, name) for name in self.names]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("fields", *self.names):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, torch.zeros_like(stored, device=self.fields.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
