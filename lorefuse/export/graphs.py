"""Export both graphs of a bundle, with reference rows that travel along and a parity report against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.config import ServingConfig
from lorefuse.contract import USER_TENSORS, Split, Tensor
from lorefuse.export import bundle as b
from lorefuse.export.onnx import CatalogueGraph, export_catalogue_ranker, export_ranker
from lorefuse.export.parity import check_catalogue_ranker, check_ranker
from lorefuse.export.signature import num_excluded
from lorefuse.features.training_set import TrainingSet
from lorefuse.models.build import load_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.progress import track

NUM_REFERENCE_USERS = 16


def export_graphs(training_set: TrainingSet, serving: ServingConfig, out_path: Path) -> dict[str, Any]:
    """Write both ONNX graphs and the reference rows of a bundle whose weights and tables are already there.

    The ranker is read back from its files, so that what is exported is what the bundle holds.

    Returns:
        The parity report.

    Raises:
        ArtifactError: The weights do not fit `model.json`, or a graph differs from torch.
    """
    ranker = load_ranker(out_path)
    catalogue = {name: torch.from_numpy(np.ascontiguousarray(t)) for name, t in b.item_tables(training_set).items()}
    num_items = len(training_set.item_fields)
    inputs = reference_inputs(training_set, serving.num_reference_rows)
    users = reference_users(training_set, inputs, num_excluded(num_items, serving))
    graph = CatalogueGraph(ranker, catalogue, min(serving.max_k, num_items)).eval()
    jobs = {
        b.RANKER_FILE: lambda path: export_ranker(ranker, _tensors(inputs), path),
        b.CATALOGUE_RANKER_FILE: lambda path: export_catalogue_ranker(graph, _tensors(users), path),
    }
    for name in track(list(jobs), "Exporting to ONNX"):
        jobs[name](out_path / name)
    report = check_ranker(out_path / b.RANKER_FILE, ranker, inputs)
    report |= check_catalogue_ranker(out_path / b.CATALOGUE_RANKER_FILE, ranker, catalogue, users)
    _write_references(ranker, graph, inputs, users, out_path)
    return report


def reference_inputs(training_set: TrainingSet, num_rows: int) -> dict[str, NDArray[Any]]:
    """Return ranker inputs of rows spread evenly over the test part (or all rows, where there is none)."""
    rows = training_set.rows_of(Split.TEST)
    rows = rows if len(rows) else np.arange(training_set.num_rows)
    chosen = rows[np.linspace(0, len(rows) - 1, max(2, min(num_rows, len(rows)))).round().astype(np.int64)]
    return {name.value: np.ascontiguousarray(array) for name, array in training_set.inputs(chosen).items()}


def reference_users(
    training_set: TrainingSet, inputs: dict[str, NDArray[Any]], num_excluded: int
) -> dict[str, NDArray[Any]]:
    """Return inputs of the catalogue ranker: the first reference rows' users, each with some excluded rows."""
    users: dict[str, NDArray[Any]] = {
        name.value: inputs[name.value][:NUM_REFERENCE_USERS] for name in USER_TENSORS if name.value in inputs
    }
    num_users = len(next(iter(users.values())))
    num_items = len(training_set.item_fields)
    exclude = np.full((num_users, num_excluded), -1, dtype=np.int64)
    rng = np.random.default_rng(0)
    for number, row in enumerate(exclude[1:], start=1):  # the first excludes nothing
        count = min(num_excluded, num_items * number // (2 * num_users))
        row[:count] = rng.choice(num_items, count, replace=False)
    return {**users, Tensor.EXCLUDE_ROWS.value: exclude}


@torch.no_grad()
def _write_references(
    ranker: Ranker, graph: CatalogueGraph, inputs: dict[str, Any], users: dict[str, Any], out_path: Path
) -> None:
    from safetensors.numpy import save_file

    score = ranker.to_score(ranker(**_tensors(inputs))).numpy()
    save_file({**inputs, Tensor.SCORE.value: score}, str(out_path / b.REFERENCE_FILE))
    rows, scores = graph(*(_tensors(users)[name] for name in graph.input_names))
    ranked = {Tensor.CATALOGUE_ROW.value: rows.numpy(), Tensor.SCORE.value: scores.numpy()}
    save_file({**users, **ranked}, str(out_path / b.CATALOGUE_REFERENCE_FILE))


def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
