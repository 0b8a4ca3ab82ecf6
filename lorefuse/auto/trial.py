"""One training of the race, and what its score is."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorefuse.auto.race import DONE, FAILED, NOT_TRIED, Outcome
from lorefuse.config import PipelineConfig
from lorefuse.core.errors import LorefuseError
from lorefuse.core.schema import Split
from lorefuse.training_set.arrays import TrainingSet

MIN_COLD = 30
"""Cold validation rows of each label without which their AUC is left out of the score: it would be noise."""
SPENT = "the budget was spent"


@dataclass(frozen=True)
class RaceTask:
    """What a worker trains, picklable.

    Attributes:
        name: The configuration.
        rows_path: Its rows, a training set's folder.
        config: The configuration itself.
        share: Of the users.
        seed: Of the sample, and of the training.
        deadline_s: Moment of `time.time` from which it is not begun.
    """

    name: str
    rows_path: str
    config: PipelineConfig
    share: float
    seed: int
    deadline_s: float


def run_trial(task: RaceTask) -> Outcome:
    """Train and judge; an error is written down, not raised."""
    from lorefuse.auto.rows import thinned
    from lorefuse.training.pool import load_training_set
    from lorefuse.training.train import score_rows, train

    if time.time() >= task.deadline_s:
        return Outcome(task.name, NOT_TRIED, error=SPENT)
    start_s = time.perf_counter()
    training = task.config.training.model_copy(update={"seed": task.seed, "num_threads": 1, "checkpoint_epochs": 0})
    try:
        training_set = thinned(load_training_set(task.rows_path), task.share, task.seed)
        trained = train(training_set, task.config.model, training)
        rows = training_set.rows_of(Split.VALIDATION)
        figures = judged(training_set, score_rows(trained.ranker, training_set, rows), rows)
    except (LorefuseError, ValueError, RuntimeError, MemoryError) as error:
        said = f"{type(error).__name__}: {error}"[:300]
        return Outcome(task.name, FAILED, train_s=time.perf_counter() - start_s, error=said)
    figures |= {
        "validation_score": trained.validation_score,
        "num_epochs": len(trained.history.epochs),
        "num_train": len(training_set.rows_of(Split.TRAIN)),
    }
    score = score_of(figures)
    return Outcome(task.name, DONE, score, round(time.perf_counter() - start_s, 2), figures)


def judged(training_set: TrainingSet, score_R: NDArray[np.float32], rows: NDArray[np.int64]) -> dict[str, float]:
    """Return what scores of validation rows are worth: AUC or RMSE of warm and cold rows, and how many cold ones.

    Args:
        training_set: The rows.
        score_R: Scores of `rows`.
        rows: Validation rows.
    """
    from lorefuse.training.row_metrics import auc, rmse

    label, cold = training_set.label[rows].astype(np.float64), training_set.cold[rows]
    score = score_R.astype(np.float64)
    figures: dict[str, float] = {}
    if training_set.spec.label_kind == "binary":
        liked = label[cold] > 0.5
        figures["num_cold"] = float(min(liked.sum(), (~liked).sum()))
        figures |= {"auc_warm": auc(label[~cold], score[~cold]), "auc_cold": auc(label[cold], score[cold])}
        return figures
    train = training_set.label[training_set.rows_of(Split.TRAIN)]
    unit = max(float(train.std(dtype=np.float64)), 1e-9)
    for name, mask in (("warm", ~cold), ("cold", cold)):
        figures[f"rmse_{name}"] = rmse(label[mask], score[mask]) / unit if mask.any() else float("nan")
    return figures | {"num_cold": float(cold.sum())}


def score_of(figures: dict[str, float]) -> float:
    """Return the score that decides: the mean of warm and cold AUC, or minus that of the RMSEs in label deviations.

    Without cold rows enough warm ones decide alone. Where no AUC is defined the validation score does, minus a loss.
    """
    sign, name = (1.0, "auc") if "auc_warm" in figures else (-1.0, "rmse")
    parts = [figures[f"{name}_warm"]]
    if figures["num_cold"] >= MIN_COLD:
        parts.append(figures[f"{name}_cold"])
    known = [sign * part for part in parts if np.isfinite(part)]
    return float(np.mean(known)) if known else figures["validation_score"]
