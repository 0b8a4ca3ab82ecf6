"""A catalogue's graph scores it in blocks: what it holds for a user at once does not grow with the catalogue."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lorefuse.config import DINConfig
from lorefuse.core.schema import Split, Tensor
from lorefuse.export.onnx import CatalogueGraph, export_catalogue_ranker
from lorefuse.export.parity import check_catalogue_ranker
from lorefuse.features.history import with_history
from lorefuse.models import field_ranker
from lorefuse.models.build import build_ranker
from lorefuse.models.ranker import as_inputs
from tests.helpers.training_rows import make_training_set

LENGTH, NUM_BLOCKS = 6, 3


def test_a_graph_in_blocks_is_torch_and_repeats_no_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = with_history(make_training_set(), LENGTH)
    num_items, path = len(sample.item_fields), tmp_path / "catalogue.onnx"
    block = -(-num_items // NUM_BLOCKS)
    monkeypatch.setattr(field_ranker, "ITEMS_PER_BLOCK", block)
    ranker = build_ranker(DINConfig(history_length=LENGTH), sample.spec)
    ranker.prepare(sample)
    ranker.eval()
    tables = sample.item_tables()
    tables[Tensor.ITEM_NUMERIC] = sample.item_numeric_now
    catalogue = as_inputs(tables)
    inputs = as_inputs(sample.inputs(sample.rows_of(Split.TEST)[:3]))
    users = {name: inputs[name] for name in sample.spec.user_tensors}
    users[Tensor.EXCLUDE_ROWS.value] = torch.full((3, 2), -1)
    export_catalogue_ranker(CatalogueGraph(ranker, catalogue, 5), users, path)
    arrays = {name: value.numpy() for name, value in users.items()}
    assert check_catalogue_ranker(path, ranker, catalogue, arrays)["max_catalogue_difference"] <= 1e-5
    hidden = ranker.attention.first.out_features  # type: ignore[operator, union-attr]
    largest = max(_per_user(path))
    assert block * LENGTH * int(hidden) <= largest < num_items * LENGTH * int(hidden)


def _per_user(path: Path) -> list[int]:
    """Return how many numbers each tensor between inputs and outputs holds for one user."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    sizes = []
    for value in inferred.graph.value_info:
        dims = value.type.tensor_type.shape.dim
        if any(dim.dim_param for dim in dims):
            sizes.append(math.prod(dim.dim_value for dim in dims if not dim.dim_param))
    return [int(np.int64(size)) for size in sizes]
