"""Arms × seeds on each split, judged on the same test rows: did knowledge help, and is it the knowledge that did?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import Arm, PipelineConfig, TrainingConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ConfigError, DataError
from lorefuse.core.progress import track
from lorefuse.core.schema import Split
from lorefuse.training.pool import load_training_set, num_learners, run_parallel
from lorefuse.training.summary import ARM_RANKERS_FOLDER, first_seed, headline, seeds_of, summarise, without_nan
from lorefuse.training_set.arrays import TrainingSet

if TYPE_CHECKING:
    from lorefuse.training.job import Job
    from lorefuse.training.train import Trained

RANKER_FOLDER = "ranker"
GLOBAL_ARMS: tuple[Arm, ...] = ("real", "none")
"""On the second split the question is only whether knowledge hurts."""


@dataclass(frozen=True)
class _Task:
    training_set_path: str
    config: PipelineConfig
    split: str
    arm: Arm
    seed: int
    params: dict[str, Any]
    save_path: str | None


def run_arms(
    training_set_paths: Mapping[str, Path],
    best_params: Mapping[str, dict[str, Any]],
    trials: Mapping[str, list[dict[str, Any]]],
    config: PipelineConfig,
    out_path: Path,
) -> dict[str, Any]:
    """Train every arm with every seed, read the test rows once, and write the evaluation folder.

    Arms with knowledge use the parameters tuned for `real`, arms without it those tuned for `none`.

    Args:
        training_set_paths: By split strategy; the first is the one whose ranker is kept.
        best_params: By tuned arm, ``real`` and ``none``.
        trials: The studies' trials by arm, for the report.
        config: Seeds, arms, k, bootstraps.
        out_path: Empty folder to fill: `metrics.json`, `history.json`, `trials.json`, `user_scores.parquet`, `ranker/`
            and, for the lists of the other arms, `rankers/<arm>/`.

    Returns:
        The headline numbers.

    Raises:
        ConfigError: The arms lack ``real``.
        DataError: A split has no test rows, or nothing to train on.

    Numbers that are undefined (the AUC of cold rows where there are none) are null in `metrics.json`. Its ``privacy``
    is what the kept ranker gives away at most (`private.guarantee`); null without `training.privacy`.
    """
    if "real" not in config.evaluation.arms:
        raise ConfigError(
            "evaluation.arms lacks the model itself.", expected="real among them", got=str(config.evaluation.arms)
        )
    for split, path in training_set_paths.items():
        _check_test_rows(load_training_set(str(path)), split)
    for arm in config.evaluation.arms:
        ranker_path(out_path, arm).mkdir(parents=True)
    tasks = _tasks(training_set_paths, best_params, config, out_path)
    # Processes that share a training take the cores one training each would have had.
    workers = 1 if config.training.num_processes > 1 else min(map(num_learners, training_set_paths.values()))
    results = list(track(run_parallel(_run, tasks, workers), "Training arms and seeds", total=len(tasks)))
    splits: dict[str, Any] = {}
    history: dict[str, Any] = {}
    for split, path in training_set_paths.items():
        mine = {(t.arm, t.seed): r for t, r in zip(tasks, results, strict=True) if t.split == split}
        training_set = load_training_set(str(path))
        splits[split] = summarise(mine, training_set, config)
        history |= {f"{split}/{arm}": r["history"] for (arm, seed), r in mine.items() if seed == first_seed(config)}
        if split == next(iter(training_set_paths)):
            kept = mine[("real", first_seed(config))]
            _write_scores(training_set, kept["test_scores"], out_path)
            counts = _counts(training_set)
    metrics = {
        "k": config.evaluation.k,
        "label_kind": config.data.label.kind,
        "seeds": seeds_of(config),
        "splits": splits,
        "best_params": dict(best_params),
        "counts": counts,
        "privacy": kept["privacy"],
    }
    write_json(out_path / "metrics.json", without_nan(metrics))
    write_json(out_path / "history.json", history)
    write_json(out_path / "trials.json", dict(trials))
    if _as_jobs(config.training):
        for task in tasks:
            shutil.rmtree(_job(task).out_path, ignore_errors=True)
    return headline(splits)


def _check_test_rows(training_set: TrainingSet, split: str) -> None:
    if not len(training_set.rows_of(Split.TEST)):
        raise DataError(
            f"The split {split} has no test rows.",
            expected="at least one",
            got="none",
            fix="bring more data, or lower split.train_share",
        )


def _tasks(
    paths: Mapping[str, Path], best_params: Mapping[str, dict[str, Any]], config: PipelineConfig, out_path: Path
) -> list[_Task]:
    tasks = []
    for number, (split, path) in enumerate(paths.items()):
        arms = [arm for arm in config.evaluation.arms if number == 0 or arm in GLOBAL_ARMS]
        for arm in arms:
            params = best_params["none" if arm == "none" else "real"]
            for seed in seeds_of(config):
                keep = number == 0 and seed == first_seed(config)
                save_path = str(ranker_path(out_path, arm)) if keep else None
                tasks.append(_Task(str(path), config, split, arm, seed, params, save_path))
    return tasks


def ranker_path(evaluation_path: Path, arm: Arm) -> Path:
    """Return the folder of an arm's trained ranker, that of the first seed."""
    return evaluation_path / RANKER_FOLDER if arm == "real" else evaluation_path / ARM_RANKERS_FOLDER / arm


def _run(task: _Task) -> dict[str, Any]:
    from lorefuse.models.build import save_ranker
    from lorefuse.training.params import apply
    from lorefuse.training.train import arm_set, judge_split, score_rows, train

    training_set = arm_set(load_training_set(task.training_set_path), task.arm, task.config, task.seed)
    model, training = apply(task.config, task.params)
    if _as_jobs(training):
        trained = _trained_job(task)
    else:
        trained = train(training_set, model, training.model_copy(update={"num_threads": 1, "seed": task.seed}))
    history = trained.history
    result: dict[str, Any] = {"history": history.epochs, "best_epoch": history.best_epoch, "privacy": history.privacy}
    for part in (Split.VALIDATION, Split.TEST):
        rows = training_set.rows_of(part)
        scores = score_rows(trained.ranker, training_set, rows)
        result[f"{part}_scores"] = scores
        result[str(part)] = judge_split(training_set, scores, rows, task.config)
    if task.save_path is not None:
        save_ranker(trained.ranker, model, Path(task.save_path))
    return result


def _as_jobs(training: TrainingConfig) -> bool:
    """Whether trainings are jobs of their own: shared by processes, or worth going on with after a kill."""
    return training.num_processes > 1 or training.checkpoint_epochs > 0


def _trained_job(task: _Task) -> Trained:
    from lorefuse.training.job import read_trained, run_job

    job = _job(task)
    return read_trained(job.out_path) if job.out_path.is_dir() else run_job(job)


def _job(task: _Task) -> Job:
    from lorefuse.training.job import Job

    draft = Job(
        rows_path=Path(task.training_set_path),
        config=task.config,
        arm=task.arm,
        seed=task.seed,
        params=task.params,
        out_path=Path("trained"),
    )
    # Kept until the evaluation is whole, so that one that was killed does not train again what it had finished.
    return draft.model_copy(update={"out_path": Path(f"{draft.checkpoint_path()}-trained")})


def _write_scores(training_set: TrainingSet, scores: NDArray[np.float32], out_path: Path) -> None:
    rows = training_set.rows_of(Split.TEST)
    frame = pd.DataFrame(
        {
            "row_id": rows,
            "user_row": training_set.user_row[rows],
            "label": training_set.label[rows],
            "score": scores,
            "cold": training_set.cold[rows],
        }
    )
    frame.to_parquet(out_path / "user_scores.parquet", index=False)


def _counts(training_set: TrainingSet) -> dict[str, int]:
    counts = {str(part): len(training_set.rows_of(part)) for part in (Split.TRAIN, Split.VALIDATION, Split.TEST)}
    cold = training_set.cold[training_set.rows_of(Split.TEST)]
    return {**counts, "test_warm": int((~cold).sum()), "test_cold": int(cold.sum())}
