"""The lists that a study's variants would serve: every arm and seed, judged as `lorefuse run` judges its own.

Each arm's candidates and ranker are fitted by `lists.run.run_arm`; what is the same for all arms, the tables of who
took both and the simple recommenders, once. Finished lists are kept like a study's other cells.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import Arm, PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.progress import track
from lorefuse.core.step_cache import reuse_or_build
from lorefuse.lists.judge import compare
from lorefuse.lists.run import (
    ORDERS,
    ArmTask,
    judged_moments,
    like_threshold,
    make_simple_lists,
    run_arm,
    save_tables,
    wants_candidates,
)
from lorefuse.lists.stage_files import SERVED, SIMPLE, WITH_RANKER, WITHOUT_RANKER
from lorefuse.study.cell import Cell
from lorefuse.training.pool import load_training_set, run_parallel
from lorefuse.training.summary import without_nan

SHOWN_FILE, SETTINGS_FILE = "shown.safetensors", "settings.json"
Shown = dict[str, NDArray[np.int64]]
Finished = tuple[Cell, str]
"""A cell and its folder, from `cell.run_cell`."""


@dataclass(frozen=True)
class ListCell:
    """A cell whose list is made.

    Attributes:
        cell: What was trained.
        cell_path: Its folder.
        common_path: What all arms share, from `make_common`.
        embeddings_path: Full text vectors of the items.
    """

    cell: Cell
    cell_path: str
    common_path: str
    embeddings_path: str


def run_list_cells(
    cells: Mapping[int, Sequence[Finished]], embeddings: Sequence[Path], num_workers: int | None
) -> dict[int, dict[str, Any]]:
    """Fit, make and judge the lists of every variant that has a candidate stage.

    Args:
        cells: By number of the variant: its finished cells.
        embeddings: Full text vectors of each variant.
        num_workers: Processes; None: one a core.

    Returns:
        By number of the variant, what `lists.judge.compare` says, of the mean over seeds, and ``settings`` of the
        simple recommenders. A variant is not in it where `candidates.mode` or its data rule candidates out.
    """
    tasks: list[tuple[int, ListCell]] = []
    common: dict[int, str] = {}
    for number, mine in cells.items():
        first = mine[0][0]
        training_set = load_training_set(first.rows_path)
        if not wants_candidates(training_set, like_threshold(training_set), first.config):
            continue
        common[number] = str(make_common(first.rows_path, first.config))
        tasks += [(number, ListCell(cell, path, common[number], str(embeddings[number]))) for cell, path in mine]
    made = run_parallel(run_list_cell, [task for _, task in tasks], num_workers)
    found: dict[int, dict[tuple[Arm, int], str]] = {number: {} for number in common}
    for (number, task), path in zip(tasks, track(made, "Making lists", total=len(tasks)), strict=True):
        found[number][task.cell.arm, task.cell.seed] = path
    return {number: _judged(cells[number][0][0], common[number], found[number]) for number in common}


def make_common(rows_path: str, config: PipelineConfig) -> Path:
    """Fit what all arms share, or find it finished: tables of who took both, and the simple recommenders' lists.

    Returns:
        Folder of ``<table>.npz``, ``shown.safetensors`` and ``settings.json``.
    """
    from safetensors.numpy import save_file

    def build(out_path: Path) -> dict[str, Any]:
        training_set = load_training_set(rows_path)
        save_tables(training_set, config, out_path)
        shown, settings = make_simple_lists(training_set, judged_moments(training_set, config), config)
        save_file({name: np.ascontiguousarray(rows) for name, rows in shown.items()}, str(out_path / SHOWN_FILE))
        write_json(out_path / SETTINGS_FILE, settings)
        return dict(settings)

    key = {name: getattr(config, name).model_dump(mode="json") for name in ("candidates", "retrieval")}
    return reuse_or_build("study_common", config=key, inputs={"rows": Path(rows_path)}, build=build).path


def run_list_cell(task: ListCell) -> str:
    """Fit both stages of a cell and make its lists, or find them finished, and return their folder."""
    from safetensors.numpy import save_file

    cell = task.cell

    def build(out_path: Path) -> dict[str, Any]:
        arm = ArmTask(
            arm=cell.arm,
            seed=cell.seed,
            rows_path=cell.rows_path,
            ranker_path=task.cell_path,
            embeddings_path=task.embeddings_path,
            tables_path=task.common_path,
            config=cell.config,
        )
        made = run_arm(arm)
        shown = {SERVED: made["lists"], **made.get("other", {})}
        save_file({name: np.ascontiguousarray(rows) for name, rows in shown.items()}, str(out_path / SHOWN_FILE))
        if "fitted" in made:
            write_json(out_path / SETTINGS_FILE, {SERVED: ORDERS[made["fitted"].facts["ordered_by"]]})
        return {"arm": cell.arm, "seed": cell.seed}

    sections = ("candidates", "retrieval", "embedding", "features", "serving", "training")
    key = {name: getattr(cell.config, name).model_dump(mode="json") for name in sections}
    key |= {"arm": cell.arm, "seed": cell.seed}
    inputs = {
        "rows": cell.rows_path, "cell": task.cell_path, "common": task.common_path, "embeddings": task.embeddings_path,
    }  # fmt: skip
    paths = {name: Path(path) for name, path in inputs.items()}
    return str(reuse_or_build("study_list", config=key, inputs=paths, build=build).path)


def _judged(cell: Cell, common_path: str, found: Mapping[tuple[Arm, int], str]) -> dict[str, Any]:
    """Compare a variant's lists: served first, then the simple ones, then those with other knowledge."""
    of_arm: dict[Arm, list[Shown]] = {}
    for (arm, _), path in found.items():
        of_arm.setdefault(arm, []).append(_read_shown(path))
    simple, real = _read_shown(common_path), of_arm["real"]
    lists = {SERVED: [shown[SERVED] for shown in real]}
    for name in (WITH_RANKER, WITHOUT_RANKER):
        if any(name in shown for shown in real):  # a seed that serves this order has it as its served list
            lists[name] = [shown.get(name, shown[SERVED]) for shown in real]
    lists |= {name: [simple[name]] for name in SIMPLE if name in simple}
    lists |= {arm: [shown[SERVED] for shown in seeds] for arm, seeds in of_arm.items() if arm != "real"}
    section, config = cell.config.retrieval, cell.config
    test = judged_moments(load_training_set(cell.rows_path), config)
    content = compare(lists, test, section.k, section.recall_k, config.study.num_bootstraps)
    settings = _read_settings(common_path) | {
        SERVED: _orders([path for (arm, _), path in found.items() if arm == "real"])
    }
    result: dict[str, Any] = without_nan(content | {"settings": settings})
    return result


def _orders(paths: Sequence[str]) -> str:
    """Say what puts the served lists of all seeds in order."""
    count = Counter(_read_settings(path)[SERVED] for path in paths)
    return "; ".join(order if len(count) == 1 else f"{order} in {n} of {len(paths)}" for order, n in count.items())


def _read_settings(path: str) -> dict[str, str]:
    settings: dict[str, str] = json.loads((Path(path) / SETTINGS_FILE).read_text("utf-8"))
    return settings


def _read_shown(path: str) -> Shown:
    from safetensors.numpy import load_file

    shown: Shown = load_file(str(Path(path) / SHOWN_FILE))
    return shown
