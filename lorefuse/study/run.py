"""Run a study: every variant gets the same split, seeds and tuning budget, with and without knowledge.

Validation rows choose (hyper-parameters, epochs, and which variant is called best); test rows are read once by each
trained model. Finished cells are kept: a study that was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import Arm, PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.log import running
from lorefuse.core.progress import track
from lorefuse.core.schema import Split
from lorefuse.study.baselines import run_baselines
from lorefuse.study.buckets import BUCKETS, bucket_masks
from lorefuse.study.cell import Cell, read_cell, run_cell
from lorefuse.study.differences import differences, mark_holm
from lorefuse.study.lists import Finished, run_list_cells
from lorefuse.study.variants import Variant
from lorefuse.study.verdict import bucket_verdict
from lorefuse.training.pool import kept_workers, load_training_set, num_learners, run_parallel
from lorefuse.training_set.arrays import TrainingSet

STUDY_FILE = "study.json"


def make_evaluation(config: PipelineConfig, artifacts: Mapping[str, Path]) -> Path:
    """Return the folder of a run's evaluation, with its trained ranker; made by the pipeline's steps, or reused.

    Args:
        config: What the run is of.
        artifacts: From `steps.prepare`.
    """
    from lorefuse import steps

    second = steps.prepare(config, config.second_strategy)["training_set"] if config.evaluation.global_cut else None
    content = steps.dump_config(config)
    study, control = (steps.tune(content, arm, artifacts["training_set"]).path for arm in ("real", "none"))
    return steps.evaluate(content, artifacts["training_set"], study, control, second).path


def run_study(
    variants: Sequence[Variant],
    artifacts: Sequence[Mapping[str, Path]],
    out_path: Path,
    *,
    num_workers: int | None = None,
) -> dict[str, Any]:
    """Tune, train and judge all variants and write `study.json`.

    Args:
        variants: From `variants.make_variants`; the first one's study section decides arms, seeds and buckets.
        artifacts: Folders of each variant, from `steps.prepare`; ``training_set`` and ``embeddings`` are read.
        out_path: Folder to write into.
        num_workers: Processes; None: one a core, as far as free memory goes.

    Returns:
        The content of `study.json`: ``lists``, what each variant's served list is worth, by name of the variant (none
        where no candidates are wanted); counts by bucket, and for each variant the spread of each metric by arm, real
        minus each control with its interval, and a verdict in words for each bucket; and the baselines.

    Raises:
        LorefuseError: Whatever the pipeline's steps raise.
    """
    rows = [folders["training_set"] for folders in artifacts]
    params = [_tuned(variant, path) for variant, path in zip(variants, rows, strict=True)]
    cells = _cells(variants, rows, params)
    num_workers = num_workers or min(map(num_learners, rows))
    with running("study"), kept_workers(num_workers):
        made = run_parallel(run_cell, [cell for _, cell in cells], num_workers)
        paths = list(track(made, "Study", total=len(cells)))
        found: dict[int, dict[tuple[Arm, int], Finished]] = {number: {} for number in range(len(variants))}
        for (number, cell), path in zip(cells, paths, strict=True):
            found[number][cell.arm, cell.seed] = cell, path
        embeddings = [folders["embeddings"] for folders in artifacts]
        lists = run_list_cells({n: list(mine.values()) for n, mine in found.items()}, embeddings, num_workers)
    entries = []
    for number, variant in enumerate(track(variants, "Comparing")):
        mine = {key: path for key, (_, path) in found[number].items()}
        entries.append(_entry(variant, load_training_set(str(rows[number])), mine, params[number]))
    content = _content(variants, load_training_set(str(rows[0])), entries)
    content["lists"] = {variants[number].name: judged for number, judged in lists.items()}
    content["baselines"] = run_baselines(variants[0].config, rows[0])
    out_path.mkdir(parents=True, exist_ok=True)
    write_json(out_path / STUDY_FILE, content)
    return content


def _tuned(variant: Variant, rows_path: Path) -> dict[str, Any]:
    """The model with knowledge and the one without are tuned with the same number of trials."""
    from lorefuse import steps
    from lorefuse.tuning.study import read_study

    content = steps.dump_config(variant.config)
    return {arm: read_study(steps.tune(content, arm, rows_path).path) for arm in ("real", "none")}


def _cells(
    variants: Sequence[Variant], rows: Sequence[Path], params: Sequence[dict[str, Any]]
) -> list[tuple[int, Cell]]:
    cells = []
    for number, variant in enumerate(variants):
        for arm in variants[0].config.study.arms:
            best = params[number]["none" if arm == "none" else "real"]["best_params"]
            cells += [
                (number, Cell(str(rows[number]), variant.config, arm, seed, best))
                for seed in _seeds(variants[0].config)
            ]
    return cells


def _entry(
    variant: Variant, training_set: TrainingSet, paths: dict[tuple[Any, int], str], tuned: dict[str, Any]
) -> dict[str, Any]:
    arms = list(dict.fromkeys(arm for arm, _ in paths))
    results = {key: read_cell(path) for key, path in paths.items()}
    of_arm = {arm: [results[key] for key in results if key[0] == arm] for arm in arms}
    scores: dict[Any, NDArray[np.float64]] = {
        arm: np.mean(np.stack([score for _, score in runs]), axis=0, dtype=np.float64) for arm, runs in of_arm.items()
    }
    masks = bucket_masks(training_set, variant.config.study)
    gaps = differences(training_set, scores, masks, variant.config.study.num_bootstraps)
    metric = "auc" if training_set.spec.label_kind == "binary" else "rmse"
    return {
        "name": variant.name,
        "model": variant.config.model.model_dump(mode="json"),
        "best_params": {arm: study["best_params"] for arm, study in tuned.items()},
        "trials": {arm: study["trials"] for arm, study in tuned.items()},
        "validation_score": {arm: _spread([run["validation_score"] for run, _ in of_arm[arm]]) for arm in arms},
        "num_parameters": {arm: of_arm[arm][0][0]["num_parameters"] for arm in arms},
        "arms": {arm: _spreads([run["metrics"] for run, _ in runs]) for arm, runs in of_arm.items()},
        "history": {arm: runs[0][0]["history"] for arm, runs in of_arm.items()},
        "differences": gaps,
        "verdicts": {bucket: bucket_verdict(gaps, bucket, metric) for bucket in BUCKETS},
    }


def _content(variants: Sequence[Variant], training_set: TrainingSet, entries: list[dict[str, Any]]) -> dict[str, Any]:
    config = variants[0].config
    num_comparisons = mark_holm(entries)
    masks = bucket_masks(training_set, config.study)
    best = max(entries, key=lambda entry: entry["validation_score"]["real"]["mean"])
    return {
        "name": config.name,
        "split": config.split.strategy,
        "label_kind": config.data.label.kind,
        "arms": list(config.study.arms),
        "seeds": _seeds(config),
        "num_trials": config.tuning.num_trials,
        "num_train": len(training_set.rows_of(Split.TRAIN)),
        "counts": {bucket: int(mask.sum()) for bucket, mask in masks.items()},
        "num_comparisons": num_comparisons,
        "best_by_validation": best["name"],
        "variants": entries,
        "data_cutoff": training_set.spec.data_cutoff,
        "k": {"ndcg": config.study.ndcg_k, "recall": config.study.recall_k},
    }


def _spreads(runs: list[dict[str, float | None]]) -> dict[str, dict[str, Any]]:
    return {name: _spread([run[name] for run in runs]) for name in runs[0]}


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample deviation over seeds; null where any seed has none, and one seed has no spread."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return {"mean": None, "std": None, "values": list(values)}
    std = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return {"mean": float(np.mean(known)), "std": std, "values": known}


def _seeds(config: PipelineConfig) -> list[int]:
    return [config.training.seed + number for number in range(config.study.num_seeds)]
