"""Rankers as ONNX graphs: one that scores rows, one that ranks the whole catalogue for a user.

Suffixes: ``B`` rows or users, ``N`` catalogue, ``S`` excluded rows, ``K`` returned.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorefuse.core.errors import LorefuseError
from lorefuse.core.schema import Tensor as TensorName
from lorefuse.models.ranker import Ranker

RANKER_FILE, CATALOGUE_RANKER_FILE = "ranker.onnx", "catalogue_ranker.onnx"
OPSET = 18
MAX_ROWS = 65536
MAX_EXCLUDED = 1 << 24


class RankerGraph(nn.Module):
    """Positional inputs in the order of `input_names` → score (B,)."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        self.ranker = ranker
        self.input_names = [*ranker.user_inputs, *ranker.item_inputs]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Score rows, shape (B,)."""
        return self.ranker.to_score(self.ranker(**dict(zip(self.input_names, inputs, strict=True))))


class CatalogueGraph(nn.Module):
    """User tensors and excluded rows → the best rows of a catalogue whose item half is kept inside the graph.

    Args:
        ranker: The ranker, in evaluation mode.
        catalogue: Item tensors of all N items, keyed by name.
        num_returned: K, at most N.
    """

    def __init__(self, ranker: Ranker, catalogue: Mapping[str, Tensor], num_returned: int) -> None:
        super().__init__()
        self.ranker = ranker
        self.num_returned = num_returned
        self.num_items = len(next(iter(catalogue.values())))
        self.input_names = [*ranker.user_inputs, TensorName.EXCLUDE_ROWS.value]
        with torch.no_grad():
            side = ranker.encode_item(**catalogue)
        self.side_names = list(side)
        for name, value in side.items():
            self.register_buffer(f"item_{name}", value.contiguous())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Rank the catalogue.

        Args:
            inputs: User tensors, then exclude_rows int64 (B, S); -1 is padding.

        Returns:
            Rows int64 (B, K), best first and the lower row first among equals, and their scores float32 (B, K).
            Where fewer than K items remain, row -1 with score -inf fills up.
        """
        *user_inputs, exclude_BS = inputs
        user = self.ranker.encode_user(**dict(zip(self.input_names[:-1], user_inputs, strict=True)))
        logits_BN = self.ranker.cross_all(user, {name: getattr(self, f"item_{name}") for name in self.side_names})
        # One column more than items catches padding and rows that do not exist.
        target_BS = torch.where((exclude_BS < 0) | (exclude_BS >= self.num_items), self.num_items, exclude_BS)
        flags = torch.zeros(exclude_BS.shape[0], self.num_items + 1, dtype=logits_BN.dtype)
        flags = flags.scatter(1, target_BS, torch.ones_like(target_BS, dtype=logits_BN.dtype))
        excluded_BN = flags[:, : self.num_items] > 0
        # The order is decided on logits: different logits may round to one probability.
        best_BK, rows_BK = torch.topk(logits_BN.masked_fill(excluded_BN, -torch.inf), self.num_returned, dim=1)
        gone_BK = torch.isneginf(best_BK)
        rows_BK = torch.where(gone_BK, -1, rows_BK)
        return rows_BK, torch.where(gone_BK, best_BK, self.ranker.to_score(best_BK))


def export_ranker(ranker: Ranker, example: Mapping[str, Tensor], path: Path) -> None:
    """Write the ranker as ONNX.

    Args:
        ranker: The ranker.
        example: Its inputs for two rows or more, keyed by name.
        path: File to write.
    """
    graph = RankerGraph(ranker).eval()
    export_module(graph, example, graph.input_names, ["score"], path)


def export_catalogue_ranker(graph: CatalogueGraph, example: Mapping[str, Tensor], path: Path) -> None:
    """Write the catalogue ranker as ONNX; `example` holds user tensors and exclude_rows of two users or more.

    The graph takes any number of excluded rows.
    """
    outputs = [TensorName.CATALOGUE_ROW.value, TensorName.SCORE.value]
    width = torch.export.Dim("excluded", min=1, max=MAX_EXCLUDED)
    export_module(graph.eval(), example, graph.input_names, outputs, path, {TensorName.EXCLUDE_ROWS.value: width})


def export_module(
    graph: nn.Module,
    example: Mapping[str, Tensor],
    inputs: list[str],
    outputs: list[str],
    path: Path,
    widths: Mapping[str, Any] | None = None,
    lengths: Mapping[str, Any] | None = None,
) -> None:
    """Write a module as ONNX with a free batch dimension, and a free second one for the inputs that `widths` names.

    The first dimension of inputs that `lengths` names is another than the batch. The module's `forward` names its
    inputs, or takes any number of them.

    Raises:
        LorefuseError: The exporter fixed a dimension that should be free.
    """
    batch = torch.export.Dim("batch", min=1, max=MAX_ROWS)
    free = {name: {0: (lengths or {}).get(name, batch)} for name in inputs}
    for name, width in (widths or {}).items():
        free[name][1] = width
    shapes: tuple[Any, ...] = tuple(free[name] for name in inputs)
    if any(part.kind == part.VAR_POSITIONAL for part in inspect.signature(graph.forward).parameters.values()):
        shapes = (shapes,)
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            graph,
            tuple(example[name] for name in inputs),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    _strip(path)


def _strip(path: Path) -> None:
    """Remove the exporter's notes (stack traces with file names of this machine): equal models get equal bytes."""
    import onnx

    model = onnx.load(str(path))
    fixed = [entry.name for entry in model.graph.input if not entry.type.tensor_type.shape.dim[0].dim_param]
    if fixed:  # the exporter falls back to a fixed batch without a word
        raise LorefuseError("An exported graph has a fixed batch size.", got=", ".join(fixed))
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
    onnx.save(model, str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on its own internals out of the log."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
