"""What ranks the items that were found for a user, as two ONNX graphs around one table; `retrieve` writes the table.

The half of a score that an item gives on its own is computed once, when a version is put into a model repository, and
lies there as a row of numbers per item; a request reads the rows of its candidates and computes the rest.

Suffixes: ``B`` users, ``M`` items, ``W`` numbers of an item.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lorefuse.export.onnx import MAX_ROWS, export_module
from lorefuse.export.retrieve import ITEM_SIDE
from lorefuse.models.ranker import Ranker


class ItemSideGraph(nn.Module):
    """Item tensors (M rows) → all that `Ranker.encode_item` returns, side by side, (M, W)."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker
        self.input_names = list(ranker.item_inputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Encode items, shape (M, W)."""
        side = self.ranker.encode_item(**dict(zip(self.input_names, inputs, strict=True)))
        return torch.cat([value.reshape(value.shape[0], -1) for value in side.values()], dim=1)


class CandidateGraph(nn.Module):
    """User tensors of B users, then rows of the table (M, W) → score of every pair (B, M).

    Args:
        ranker: The ranker, in evaluation mode.
        example: Item tensors of a row or more, by name: they say which numbers of a table's row are what.
    """

    def __init__(self, ranker: Ranker, example: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.ranker = ranker
        with torch.no_grad():
            side = ranker.encode_item(**{name: example[name] for name in ranker.item_inputs})
        self.shapes = {name: tuple(value.shape[1:]) for name, value in side.items()}
        self.widths = [int(np.prod(shape, dtype=int)) for shape in self.shapes.values()]
        self.user_names = list(ranker.user_inputs)
        self.input_names = [*self.user_names, ITEM_SIDE]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Score pairs, shape (B, M)."""
        *users, side_MW = inputs
        parts = torch.split(side_MW, self.widths, dim=1)
        item = {
            name: part.reshape(part.shape[0], *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        user = self.ranker.encode_user(**dict(zip(self.user_names, users, strict=True)))
        return self.ranker.to_score(self.ranker.cross_all(user, item))


def export_candidates(ranker: Ranker, example: Mapping[str, Tensor], side_path: Path, ranker_path: Path) -> None:
    """Write both graphs.

    Args:
        ranker: The ranker.
        example: Its inputs for two rows or more, keyed by name.
        side_path: File for what makes the table.
        ranker_path: File for what scores candidates.
    """
    items = ItemSideGraph(ranker).eval()
    export_module(items, example, items.input_names, [ITEM_SIDE], side_path)
    graph = CandidateGraph(ranker, example).eval()
    with torch.no_grad():
        side = items(*(example[name] for name in items.input_names))
    # As many items as users would be taken for the same dimension.
    rows = {**{name: example[name][:2] for name in graph.user_names}, ITEM_SIDE: torch.cat([side, side])[:3]}
    lengths = {ITEM_SIDE: torch.export.Dim("candidates", min=1, max=MAX_ROWS)}
    export_module(graph, rows, graph.input_names, ["score"], ranker_path, lengths=lengths)
