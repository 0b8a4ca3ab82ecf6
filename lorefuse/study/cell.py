"""One cell of a study: a variant, an arm and a seed, trained once, judged on every bucket, kept for the next run.

Its ranker is kept too: `study.lists` judges the list that it would serve.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import Arm, PipelineConfig, StudyConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.schema import Split
from lorefuse.core.step_cache import reuse_or_build
from lorefuse.study.buckets import bucket_masks
from lorefuse.training.metrics import ranking
from lorefuse.training.row_metrics import auc, gauc, logloss, rmse
from lorefuse.training_set.arrays import TrainingSet

RESULT_FILE, SCORES_FILE = "result.json", "scores.safetensors"


@dataclass(frozen=True)
class Cell:
    """What is trained.

    Attributes:
        rows_path: Training set folder, with the real knowledge.
        config: The variant's configuration.
        arm: Knowledge given to the model.
        seed: Of weights, order and the arm's own draws.
        params: Tuned hyper-parameters.
    """

    rows_path: str
    config: PipelineConfig
    arm: Arm
    seed: int
    params: dict[str, Any]


def run_cell(cell: Cell) -> str:
    """Train and judge a cell, or find it finished, and return its folder."""
    sections = ("data", "features", "model", "training", "study")
    key = {name: getattr(cell.config, name).model_dump(mode="json") for name in sections}
    for name in ("arms", "num_seeds", "num_bootstraps", "baselines"):
        key["study"].pop(name)  # they decide which cells there are, not what is in one
    key |= {"arm": cell.arm, "seed": cell.seed, "params": cell.params}

    def build(out_path: Path) -> dict[str, Any]:
        return _build(cell, out_path)

    step = reuse_or_build("study", config=key, inputs={"rows": Path(cell.rows_path)}, build=build)
    return str(step.path)


def read_cell(path: str) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Return a cell's result and its scores of the test rows."""
    from safetensors.numpy import load_file

    result = json.loads((Path(path) / RESULT_FILE).read_text("utf-8"))
    scores: NDArray[np.float32] = load_file(str(Path(path) / SCORES_FILE))["test"]
    return result, scores


def _build(cell: Cell, out_path: Path) -> dict[str, Any]:
    from safetensors.numpy import save_file

    from lorefuse.features.history import with_history
    from lorefuse.models.build import save_ranker
    from lorefuse.retrieval.metrics import coverage, novelty, self_information
    from lorefuse.study.catalogue import top_items
    from lorefuse.training.params import apply
    from lorefuse.training.pool import load_training_set
    from lorefuse.training.train import arm_set, score_rows, train

    training_set = arm_set(load_training_set(cell.rows_path), cell.arm, cell.config, cell.seed)
    model, training = apply(cell.config, cell.params)
    trained = train(training_set, model, training.model_copy(update={"num_threads": 1, "seed": cell.seed}))
    study, test = cell.config.study, training_set.rows_of(Split.TEST)
    scores = score_rows(trained.ranker, training_set, test)
    with_past = with_history(training_set, trained.ranker.spec.history_length)
    shown = top_items(trained.ranker, with_past, study.num_catalogue_users, study.ndcg_k)
    count = np.bincount(
        training_set.item_row[training_set.rows_of(Split.TRAIN)], minlength=len(training_set.item_fields)
    )
    metrics = judge_buckets(training_set, scores, study)
    metrics |= {
        f"coverage_at_{study.ndcg_k}": coverage(shown, len(count)),
        f"novelty_at_{study.ndcg_k}": novelty(shown, self_information(count, len(training_set.user_fields))),
    }
    result = {
        "metrics": {name: value if np.isfinite(value) else None for name, value in metrics.items()},
        "validation_score": trained.validation_score,
        "history": trained.history.epochs,
        "best_epoch": trained.history.best_epoch,
        "num_parameters": sum(parameter.numel() for parameter in trained.ranker.parameters()),
    }
    write_json(out_path / RESULT_FILE, result)
    save_file({"test": scores}, str(out_path / SCORES_FILE))
    save_ranker(trained.ranker, model, out_path)
    return {"arm": cell.arm, "seed": cell.seed, "validation_score": round(trained.validation_score, 5)}


def judge_buckets(training_set: TrainingSet, score_T: NDArray[np.float32], study: StudyConfig) -> dict[str, float]:
    """Return every metric of every bucket as ``<metric>_<bucket>``; NaN where undefined.

    AUC, GAUC and logloss (RMSE for a regression) come from the test rows of the bucket; NDCG@k and Recall@k from
    each user's own test rows in the bucket, ranked by score.
    """
    rows = training_set.rows_of(Split.TEST)
    label, user = training_set.label[rows].astype(np.float64), training_set.user_row[rows].astype(np.int64)
    score, binary = score_T.astype(np.float64), training_set.spec.label_kind == "binary"
    liked_from = 0.5 if binary else float(training_set.label[training_set.rows_of(Split.TRAIN)].mean())
    relevant: NDArray[np.float64] = (label > liked_from).astype(np.float64)
    result: dict[str, float] = {}
    for bucket, mask in bucket_masks(training_set, study).items():
        named: Mapping[str, float] = {
            "auc": auc(relevant[mask], score[mask]),
            "gauc": gauc(relevant[mask], score[mask], user_R=user[mask]),
            "logloss" if binary else "rmse": (logloss if binary else rmse)(label[mask], score[mask]),
            f"ndcg_at_{study.ndcg_k}": ranking(relevant[mask], score[mask], user[mask], study.ndcg_k)[0],
            f"recall_at_{study.recall_k}": ranking(relevant[mask], score[mask], user[mask], study.recall_k)[1],
        }
        result |= {f"{name}_{bucket}": value for name, value in named.items()}
    return result
