"""A study by ask and tell: every arm gets the same number of trials, judged on validation rows alone."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.config import Arm, PipelineConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError, ConfigError, DivergedError
from lorefuse.core.progress import track
from lorefuse.training.params import apply, defaults
from lorefuse.training.pool import kept_workers, load_training_set, num_learners, run_parallel
from lorefuse.tuning.space import CHOICES, nearest, suggest

if TYPE_CHECKING:
    import optuna

    from lorefuse.training_set.arrays import TrainingSet
    from lorefuse.tuning.journal import Journal

STUDY_FILE = "study.json"
TRIALS_AT_A_TIME = 2
"""Fixed, whatever the machine, so that the sampler sees the same answers in the same order everywhere."""


@dataclass(frozen=True)
class TrialTask:
    """One trial, picklable: where the rows are, what to try, and the curves of finished trials (for pruning)."""

    training_set_path: str
    config: PipelineConfig
    arm: Arm
    params: dict[str, Any]
    curves: tuple[tuple[float, ...], ...] = ()


def tune(
    training_set_path: Path, config: PipelineConfig, arm: Arm, out_path: Path, journal: Journal | None = None
) -> dict[str, Any]:
    """Search hyper-parameters for one arm and write `study.json`.

    The first trial is the configuration itself. Finished trials are kept in a journal: a study that was killed goes on
    where it stopped, and ends as an undisturbed one, since the sampler is told the same values in the same order. A
    trial whose loss is no longer finite is recorded as failed, one that falls behind (`tuning.pruning`) as pruned, and
    the study goes on. With `tuning.num_folds` a trial's value is its mean over rolling folds in time.

    Args:
        training_set_path: Training set folder, with the real knowledge.
        config: Trials, seeds, model and training.
        arm: Knowledge given to the model.
        out_path: Empty folder to fill.
        journal: Where finished trials are kept while the study runs; None: nowhere.

    Returns:
        arm, best_params, best_value and the number of trials.

    Raises:
        DivergedError: No trial has a finite loss.
        UnreachableError: The journal is a database that does not answer.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=make_sampler(config, config.tuning.seed))
    study.enqueue_trial(first_point(config, arm))
    known = journal.read() if journal is not None else []
    records: list[dict[str, Any]] = []
    starts = range(0, config.tuning.num_trials, TRIALS_AT_A_TIME)
    num_workers = min(TRIALS_AT_A_TIME, num_learners(training_set_path))
    with kept_workers(num_workers):
        for start in track(starts, f"Tuning ({arm})"):
            trials = [study.ask() for _ in range(min(TRIALS_AT_A_TIME, config.tuning.num_trials - start))]
            params = [suggest(trial, config, arm) for trial in trials]
            if start == 0 and config.tuning.space == "training":
                params[0] = defaults(config)  # as configured, even where that lies outside of the search space
            finished = known[start : start + len(trials)]
            if [record["params"] for record in finished] != params:
                curves = tuple(tuple(record["curve"]) for record in records if record["state"] == "COMPLETE")
                tasks = [TrialTask(str(training_set_path), config, arm, p, curves) for p in params]
                results = run_parallel(run_task, tasks, num_workers)
                finished = [{"number": trial.number, **result} for trial, result in zip(trials, results, strict=True)]
            for trial, record in zip(trials, finished, strict=True):
                tell(study, trial, record)
                records.append(record)
            if journal is not None:
                journal.keep(records, trials)
    best = best_record(records)
    content = {"arm": arm, "best_params": best["params"], "best_value": best["value"], "trials": records}
    write_json(out_path / STUDY_FILE, content)
    return {
        "arm": arm,
        "num_trials": len(records),
        "best_value": round(best["value"], 5),
        "best_params": best["params"],
    }


def read_study(path: Path) -> dict[str, Any]:
    """Read a study folder.

    Raises:
        ArtifactError: It holds no complete study.
    """
    try:
        content: dict[str, Any] = json.loads((path / STUDY_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} holds no complete study.", got=str(error), fix="lorefuse run") from None
    return content


def adopt_study(studies_path: Path, arm: Arm, out_path: Path) -> dict[str, Any]:
    """Take over what `lorefuse tune` found for an arm, in place of a search; return what `tune` returns.

    Args:
        studies_path: Folder with a study folder for each arm.
        arm: Knowledge given to the model.
        out_path: Empty folder to fill.

    Raises:
        ConfigError: There is no finished study of this arm, or it searched something that no model has.
    """
    path = studies_path / arm
    try:
        content = read_study(path)
        apply(PipelineConfig(), content["best_params"])
        if content["arm"] != arm:
            raise ValueError(f"a study of arm {content['arm']}")
    except (ArtifactError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"tuning.studies_path holds no finished study of arm {arm}.",
            expected=f"{path / STUDY_FILE}",
            got=str(error)[:200],
            fix="lorefuse tune --config …, or leave tuning.studies_path out",
        ) from None
    write_json(out_path / STUDY_FILE, content)
    best = {"best_value": round(content["best_value"], 5), "best_params": content["best_params"]}
    return {"arm": arm, "num_trials": len(content["trials"]), **best, "adopted": str(path)}


def make_sampler(config: PipelineConfig, seed: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a study: TPE that counts running trials as bad ones (constant liar)."""
    import optuna

    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def first_point(config: PipelineConfig, arm: str) -> dict[str, Any]:
    """Return the point that a study tries first: the configuration, or what of the space is nearest to it."""
    point: dict[str, Any] = nearest(defaults(config))
    if config.tuning.space == "training":
        return point
    families = config.tuning.families
    point["family"] = config.model.family if config.model.family in families else families[0]
    for name, choices in CHOICES.items():
        configured = getattr(config.model, name, None)
        point[name] = configured if configured in choices else choices[0]
    return point


def tell(study: optuna.Study, trial: optuna.Trial, record: dict[str, Any]) -> None:
    """Tell a study how a trial ended: complete, pruned (with its curve) or failed."""
    import optuna

    state = optuna.trial.TrialState[record["state"]]
    if state == optuna.trial.TrialState.PRUNED:
        for epoch, score in enumerate(record["curve"], start=1):
            trial.report(score, epoch)
    study.tell(trial, record["value"] if state == optuna.trial.TrialState.COMPLETE else None, state=state)


def run_trial(training_set: TrainingSet, task: TrialTask) -> dict[str, Any]:
    """Train a trial on each fold and return its state, value, number of epochs and curve (of the first fold)."""
    from lorefuse.training.train import train
    from lorefuse.tuning.folds import rolling_folds
    from lorefuse.tuning.pruning import Pruner, never

    tuning, per_user = task.config.tuning, task.config.split.strategy != "global_time"
    model, training = apply(task.config, task.params)
    training = training.model_copy(update={"num_threads": 1})
    curve: list[float] = []
    pruner = Pruner(task.curves) if tuning.pruning else None
    values, num_epochs = [], 0
    for number, fold in enumerate(rolling_folds(training_set, tuning.num_folds, per_user=per_user)):
        watch = (pruner or never(curve)) if number == 0 else None
        try:
            trained = train(fold, model, training, watch)
        except DivergedError:
            return {"state": "FAIL", "value": None, "num_epochs": 0, "curve": []}
        values.append(trained.validation_score)
        num_epochs += len(trained.history.epochs)
        if pruner is not None and pruner.pruned:
            return {"state": "PRUNED", "value": values[0], "num_epochs": num_epochs, "curve": pruner.curve}
    shown = pruner.curve if pruner is not None else curve
    return {"state": "COMPLETE", "value": sum(values) / len(values), "num_epochs": num_epochs, "curve": shown}


def run_task(task: TrialTask) -> dict[str, Any]:
    """Read the rows, give them the arm's knowledge, and run the trial; returns its record without a number."""
    from lorefuse.training.train import arm_set

    start_s = time.perf_counter()
    training_set = arm_set(load_training_set(task.training_set_path), task.arm, task.config, seed=0)
    result = run_trial(training_set, task)
    return {"params": task.params, **result, "duration_s": round(time.perf_counter() - start_s, 2)}


def best_record(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the finished trial with the highest value, the first of several.

    Raises:
        DivergedError: None is finished.
    """
    complete = [record for record in records if record["state"] == "COMPLETE"]
    if not complete:
        raise DivergedError(
            "No trial of the study has a finite loss.",
            expected="at least one",
            got=f"{len(records)} that diverged",
            fix="lower training.learning_rate, and look for extreme values in the numeric features",
        )
    return max(complete, key=lambda record: (record["value"], -record["number"]))
