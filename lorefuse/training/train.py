"""Train one ranker on one arm and judge it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.config import Arm, ModelConfig, PipelineConfig, TrainingConfig
from lorefuse.core.schema import Split
from lorefuse.features.arms import with_knowledge
from lorefuse.features.history import with_history
from lorefuse.models.build import build_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.training import loop
from lorefuse.training.batches import Batches
from lorefuse.training.ddp import prepare
from lorefuse.training.ema import LearningCurve
from lorefuse.training.metrics import judge
from lorefuse.training.row_metrics import gauc, logloss, rmse
from lorefuse.training.step import predict
from lorefuse.training_set.arrays import TrainingSet


@dataclass(frozen=True)
class Trained:
    """A trained ranker.

    Attributes:
        ranker: With the weights of its best epoch.
        history: Learning curve.
        validation_score: Of the best epoch: minus the logloss (or RMSE) over all validation rows; for a ranking loss
            the GAUC.
    """

    ranker: Ranker
    history: LearningCurve
    validation_score: float


def train(
    training_set: TrainingSet,
    model: ModelConfig,
    training: TrainingConfig,
    on_epoch: loop.EpochCallback | None = None,
    checkpoint_path: Path | None = None,
) -> Trained:
    """Train on train rows, stop early and keep the best epoch by validation rows; test rows are not looked at.

    With `training.privacy` all epochs are made, and the last one is kept.

    Args:
        training_set: An arm's rows.
        model: Family and hyper-parameters.
        training: Loop and seed; the seed also draws the initial weights.
        on_epoch: Called after each epoch with its number and validation score; True stops the training.
        checkpoint_path: Folder of this training's checkpoints, see `loop.fit`; None: none.
    """
    training_set = with_history(training_set, getattr(model, "history_length", 0))
    ranker = build_ranker(model, training_set.spec, seed=training.seed)
    prepare(ranker, training_set)
    label = training_set.label[training_set.rows_of(Split.VALIDATION)].astype(np.float64)
    loss = logloss if training_set.spec.label_kind == "binary" else rmse
    user = training_set.user_row[training_set.rows_of(Split.VALIDATION)].astype(np.int64)

    def validation_score(score_R: NDArray[np.float32]) -> float:
        if training.loss == "pointwise":
            return -loss(label, score_R.astype(np.float64))
        # A ranking loss leaves the level of the scores free; only their order within a user can be judged.
        return gauc(label, score_R.astype(np.float64), user_R=user)

    history = loop.fit(
        ranker,
        training_set,
        training,
        validation_score=validation_score,
        on_epoch=on_epoch,
        checkpoint_path=checkpoint_path,
    )
    return Trained(ranker, history, history.epochs[history.best_epoch - 1]["validation_score"])


def score_rows(ranker: Ranker, training_set: TrainingSet, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the scores of some rows, float32."""
    training_set = with_history(training_set, ranker.spec.history_length)
    device = next(ranker.parameters()).device
    batches = Batches(training_set, device, ranker, rows)
    logits = predict(ranker, batches, torch.from_numpy(rows).to(device))
    scores: NDArray[np.float32] = ranker.to_score(logits).cpu().numpy()
    return scores


def judge_split(
    training_set: TrainingSet, score_R: NDArray[np.float32], rows: NDArray[np.int64], config: PipelineConfig
) -> dict[str, float]:
    """Return every metric of scored rows; see `metrics.judge`."""
    binary = training_set.spec.label_kind == "binary"
    return judge(
        training_set.label[rows],
        score_R,
        training_set.user_row[rows],
        training_set.cold[rows],
        k=config.evaluation.k,
        label_kind=training_set.spec.label_kind,
        value_R=None if binary else training_set.value[rows],
        threshold=0.5 if binary else config.data.label.threshold,
    )


def arm_set(training_set: TrainingSet, arm: Arm, config: PipelineConfig, seed: int) -> TrainingSet:
    """Return the training set with an arm's knowledge; shuffles and random vectors differ by seed."""
    return with_knowledge(training_set, arm, config.features, seed)
