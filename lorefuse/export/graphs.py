"""Export how a bundle ranks, with reference rows that travel along and a parity report against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig
from lorefuse.core.progress import track
from lorefuse.core.schema import Split, Tensor
from lorefuse.export.bundle import (
    CANDIDATE_FILES,
    CATALOGUE_RANKER_FILE,
    CATALOGUE_REFERENCE_FILE,
    RANKER_FILE,
    REFERENCE_FILE,
)
from lorefuse.export.candidates import export_candidates
from lorefuse.export.onnx import CatalogueGraph, export_catalogue_ranker, export_ranker
from lorefuse.export.parity import check_candidates, check_catalogue_ranker, check_ranker
from lorefuse.export.signature import num_excluded
from lorefuse.export.stages import export_stages
from lorefuse.lists.stage_files import CANDIDATES_FILE
from lorefuse.models.build import load_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.training_set.arrays import TrainingSet

NUM_REFERENCE_USERS = 16


def export_graphs(
    training_set: TrainingSet, config: PipelineConfig, out_path: Path, list_ranker_path: Path | None = None
) -> dict[str, Any]:
    """Write the graphs and the reference rows of a bundle whose weights and tables are already there.

    The ranker is read back from its files, so that what is exported is what the bundle holds. The catalogue gets a
    graph of its own or, where it is too large for one, towers and an index.

    Args:
        training_set: What the ranker was trained and judged on.
        config: Limits of serving.
        out_path: The bundle.
        list_ranker_path: A ranker that learned to order candidates, which then scores them; None: the bundle's own.

    Returns:
        The parity report.

    Raises:
        ArtifactError: The weights do not fit `model.json`, a graph differs from torch, or an index finds too little.
    """
    serving = config.serving
    ranker = load_ranker(out_path)
    catalogue = {name: torch.from_numpy(np.ascontiguousarray(t)) for name, t in training_set.item_tables().items()}
    num_items = len(training_set.item_fields)
    inputs = reference_inputs(training_set, serving.num_reference_rows)
    users = reference_users(training_set, inputs, num_excluded(num_items, serving))
    blends = (out_path / CANDIDATES_FILE).is_file()
    if blends or serving.retrieval.two_stage(num_items):
        report = _export_halves(ranker, load_ranker(list_ranker_path or out_path), inputs, out_path)
        if blends:
            return report | export_stages(training_set, config, ranker, out_path)
        return report | _export_retrieval(training_set, config, ranker, catalogue, users, out_path)
    graph = CatalogueGraph(ranker, catalogue, min(serving.max_k, num_items)).eval()
    jobs = {
        RANKER_FILE: lambda path: export_ranker(ranker, _tensors(inputs), path),
        CATALOGUE_RANKER_FILE: lambda path: export_catalogue_ranker(graph, _tensors(users), path),
    }
    for name in track(list(jobs), "Exporting to ONNX"):
        jobs[name](out_path / name)
    report = check_ranker(out_path / RANKER_FILE, ranker, inputs)
    report |= check_catalogue_ranker(out_path / CATALOGUE_RANKER_FILE, ranker, catalogue, users)
    _write_ranker_reference(ranker, inputs, out_path)
    with torch.no_grad():
        rows, scores = graph(*(_tensors(users)[name] for name in graph.input_names))
    ranked = {Tensor.CATALOGUE_ROW.value: rows.numpy(), Tensor.SCORE.value: scores.numpy()}
    _save({**users, **ranked}, out_path / CATALOGUE_REFERENCE_FILE)
    return report


def _export_halves(
    ranker: Ranker, list_ranker: Ranker, inputs: dict[str, NDArray[Any]], out_path: Path
) -> dict[str, Any]:
    """Write the ranker's graph, and both halves of the one that scores the items that were found for a user."""
    export_ranker(ranker, _tensors(inputs), out_path / RANKER_FILE)
    report = check_ranker(out_path / RANKER_FILE, ranker, inputs)
    side_path, candidates_path = (out_path / name for name in CANDIDATE_FILES)
    export_candidates(list_ranker, _tensors(inputs), side_path, candidates_path)
    report |= check_candidates(side_path, candidates_path, list_ranker, inputs)
    _write_ranker_reference(ranker, inputs, out_path)
    return report


def reference_inputs(training_set: TrainingSet, num_rows: int) -> dict[str, NDArray[Any]]:
    """Return ranker inputs of rows spread evenly over the test part (or all rows, where there is none)."""
    chosen = _reference_rows(training_set, num_rows)
    return {name: np.ascontiguousarray(array) for name, array in training_set.inputs(chosen).items()}


def _reference_rows(training_set: TrainingSet, num_rows: int) -> NDArray[np.int64]:
    rows = training_set.rows_of(Split.TEST)
    rows = rows if len(rows) else np.arange(training_set.num_rows)
    return rows[np.linspace(0, len(rows) - 1, max(2, min(num_rows, len(rows)))).round().astype(np.int64)]


def reference_users(
    training_set: TrainingSet, inputs: dict[str, NDArray[Any]], num_excluded: int
) -> dict[str, NDArray[Any]]:
    """Return inputs of the catalogue ranker: the first reference rows' users, each with some excluded rows."""
    users: dict[str, NDArray[Any]] = {
        name: inputs[name][:NUM_REFERENCE_USERS] for name in training_set.spec.user_tensors
    }
    num_users = len(next(iter(users.values())))
    num_items = len(training_set.item_fields)
    exclude = np.full((num_users, num_excluded), -1, dtype=np.int64)
    rng = np.random.default_rng(0)
    for number, row in enumerate(exclude[1:], start=1):  # the first excludes nothing
        count = min(num_excluded, num_items * number // (2 * num_users))
        row[:count] = rng.choice(num_items, count, replace=False)
    return {**users, Tensor.EXCLUDE_ROWS.value: exclude}


def _export_retrieval(
    training_set: TrainingSet,
    config: PipelineConfig,
    ranker: Ranker,
    catalogue: dict[str, torch.Tensor],
    users: dict[str, NDArray[Any]],
    out_path: Path,
) -> dict[str, Any]:
    """Write towers, index and the references of retrieving and ranking."""
    from lorefuse.export.retrieval import export_retrieval, kept_of_top, reference_liked, retrieve_and_rank
    from lorefuse.retrieval.index import load_index
    from lorefuse.retrieval.vectors import TowerArrays

    facts = export_retrieval(training_set, config, out_path)
    rows = _reference_rows(training_set, config.serving.num_reference_rows)[:NUM_REFERENCE_USERS]
    states = training_set.state_row[rows]
    users = {**users, Tensor.LIKED_ROWS.value: reference_liked(training_set, states, config.features.history_length)}
    arrays, index = TowerArrays.load(out_path), load_index(out_path)

    def ranked(asked: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return retrieve_and_rank(ranker, catalogue, arrays, index, asked, facts, config.serving.max_k)

    _save({**users, **ranked(users)}, out_path / CATALOGUE_REFERENCE_FILE)
    nothing = np.full_like(users[Tensor.EXCLUDE_ROWS.value], -1)
    found = ranked({**users, Tensor.EXCLUDE_ROWS.value: nothing})[Tensor.CATALOGUE_ROW.value]
    return {**facts, "kept_of_top_10": kept_of_top(ranker, catalogue, users, found)}


@torch.no_grad()
def _write_ranker_reference(ranker: Ranker, inputs: dict[str, Any], out_path: Path) -> None:
    score = ranker.to_score(ranker(**_tensors(inputs))).numpy()
    _save({**inputs, Tensor.SCORE.value: score}, out_path / REFERENCE_FILE)


def _save(arrays: dict[str, NDArray[Any]], path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))


def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
