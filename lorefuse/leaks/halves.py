"""Models trained on random halves of the train rows: the only fair ground for attacks.

Train and test rows differ by time, and so by how popular their items are and how long their users' pasts: they can be
told apart without any model. The two random halves of the train rows differ by nothing but what a model was given.

Suffixes: ``R`` train rows that are looked at, ``U`` users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.leaks.membership import confidence
from lorefuse.training.row_metrics import Array
from lorefuse.training_set.arrays import TrainingSet


@dataclass(frozen=True)
class HalfTask:
    """A model to train on half of the train rows.

    Attributes:
        rows_path: Training set.
        config: What is trained, and how many rows are looked at.
        params: Hyper-parameters found by tuning.
        number: Of the model; gives it its half and its seed.
    """

    rows_path: str
    config: PipelineConfig
    params: dict[str, Any]
    number: int


@dataclass(frozen=True)
class Half:
    """What a model of a half gives away.

    Attributes:
        is_in: Which looked-at rows it was trained on, (R,).
        confidence: How sure it is of each, (R,).
        member_auc: How far its users' embeddings prefer likes that it was trained on, (U,); None without embeddings.
        control_auc: The same of likes of the other half.
    """

    is_in: NDArray[np.bool_]
    confidence: Array
    member_auc: Array | None
    control_auc: Array | None


def looked_at(training_set: TrainingSet, num_rows: int, seed: int) -> NDArray[np.int64]:
    """Return the train rows that attacks look at, (R,): interactions, all or a random choice of so many, in order."""
    rows = training_set.rows_of(Split.TRAIN)
    rows = rows[rows < training_set.num_states]  # sampled negatives are nobody's
    if len(rows) <= num_rows:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, num_rows, replace=False))


def halved(training_set: TrainingSet, seed: list[int]) -> TrainingSet:
    """Return a training set without a random half of its train interactions, nor what was sampled for them.

    Features stay as they are: an attack finds what the weights know of a row, not what statistics do.
    """
    train = training_set.rows_of(Split.TRAIN)
    real = train[train < training_set.num_states]
    is_out = np.zeros(training_set.num_states, bool)
    is_out[np.random.default_rng(seed).permutation(real)[: len(real) // 2]] = True
    code = np.array(training_set.split_code)
    code[train[is_out[training_set.state_row[train]]]] = SPLIT_CODES[Split.EXCLUDED]
    return replace(training_set, split_code=code)


def train_half(task: HalfTask) -> Half:
    """Train on a half as the project trains, and look at both halves."""
    from lorefuse.leaks.ids import id_exposure
    from lorefuse.training.params import apply
    from lorefuse.training.pool import load_training_set
    from lorefuse.training.train import score_rows, train

    whole, section = load_training_set(task.rows_path), task.config.leaks
    half = halved(whole, [section.seed, task.number])
    model, training = apply(task.config, task.params)
    seed = training.seed + task.number
    ranker = train(half, model, training.model_copy(update={"num_threads": 1, "seed": seed})).ranker
    rows = looked_at(whole, section.num_rows, section.seed)
    scores = score_rows(ranker, half, rows).astype(np.float64)
    is_in = half.split_code[rows] == SPLIT_CODES[Split.TRAIN]
    sure = confidence(whole.label[rows].astype(np.float64), scores, whole.spec.label_kind)
    train_rows = whole.rows_of(Split.TRAIN)
    is_kept = half.split_code[train_rows] == SPLIT_CODES[Split.TRAIN]
    exposed = id_exposure(ranker, whole, train_rows[is_kept], train_rows[~is_kept], task.config, section.num_users)
    return Half(is_in, sure, *(exposed or (None, None)))
