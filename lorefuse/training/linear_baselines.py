"""scikit-learn's linear models on the very inputs of our rankers: a second opinion from code that is not ours.

``sklearn_logistic`` is `LogisticRegression` (`Ridge` for values) on one-hot categories, numbers, interest scalars and
knowledge vectors: what `models.linear.LogisticRegression` reads. scikit-learn has no factorisation machine;
``sklearn_fm_sketch`` approximates one: the same linear part, and beside it all pairwise products of the inputs, hashed
by `PolynomialCountSketch` to few dimensions, of which the linear model weighs each. An FM gives the pair (i, j) the
weight vᵢ·vⱼ; here every pair has a weight of its own, shared with the pairs that fall into its places.

Suffixes: ``R`` rows, ``X`` input columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import BaselineName
from lorefuse.core.schema import Split, Tensor
from lorefuse.features.aggregates import unit_rows
from lorefuse.training.row_metrics import logloss, rmse
from lorefuse.training_set.arrays import TrainingSet

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse strengths of the penalty that are tried; validation rows choose."""
SKETCH_DIM = 256
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline.

    Attributes:
        strength: Inverse strength of the penalty that validation rows chose.
        validation_score: Minus the logloss (or RMSE) there.
        scores: Scores of the rows that were asked for, float32: a probability, or the value.
    """

    strength: float
    validation_score: float
    scores: NDArray[np.float32]


def fit_baseline(name: BaselineName, training_set: TrainingSet, rows: NDArray[np.int64], *, seed: int = 0) -> Baseline:
    """Fit on train rows, choose the penalty by validation rows, score some rows.

    Args:
        name: Which one.
        training_set: An arm's rows.
        rows: Rows to score.
        seed: Of the hashes.
    """
    parts = [training_set.rows_of(Split.TRAIN), training_set.rows_of(Split.VALIDATION), rows]
    train_X, validation_X, asked_X = _inputs(training_set, parts, sketch=name == "sklearn_fm_sketch", seed=seed)
    binary = training_set.spec.label_kind == "binary"
    label = training_set.label.astype(np.float64)
    best: Baseline | None = None
    for strength in STRENGTHS:
        model = _model(binary, strength).fit(train_X, label[parts[0]])
        found = _scores(model, validation_X, binary)
        score = -float((logloss if binary else rmse)(label[parts[1]], found))
        if best is None or score > best.validation_score:
            best = Baseline(strength, score, _scores(model, asked_X, binary).astype(np.float32))
    assert best is not None
    return best


def _model(binary: bool, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    return LogisticRegression(C=strength, max_iter=MAX_ITERATIONS) if binary else Ridge(alpha=1 / strength)


def _scores(model: Any, inputs_RX: csr_matrix, binary: bool) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = model.predict_proba(inputs_RX)[:, 1] if binary else model.predict(inputs_RX)
    return scores


def _inputs(training_set: TrainingSet, parts: list[NDArray[np.int64]], *, sketch: bool, seed: int) -> list[csr_matrix]:
    """Return the inputs of several parts, fitted (scaled, hashed) on the first."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.kernel_approximation import PolynomialCountSketch
    from sklearn.preprocessing import StandardScaler

    categories = [_one_hot(training_set, rows) for rows in parts]
    numbers = [_numbers(training_set, rows) for rows in parts]
    scaler = StandardScaler().fit(numbers[0])
    # Beside a handful of ones, many standardised numbers would drown the ids in every product.
    width = max(1, numbers[0].shape[1])
    scaled = [np.clip(scaler.transform(block), -5, 5) for block in numbers]
    plain = [hstack([c, csr_matrix(n)], format="csr") for c, n in zip(categories, scaled, strict=True)]
    if not sketch:
        return plain
    mixed = [hstack([c, csr_matrix(n / np.sqrt(width))], format="csr") for c, n in zip(categories, scaled, strict=True)]
    hashes = PolynomialCountSketch(degree=2, n_components=SKETCH_DIM, random_state=seed).fit(mixed[0][:2])
    return [hstack([p, csr_matrix(hashes.transform(m))], format="csr") for p, m in zip(plain, mixed, strict=True)]


def _one_hot(training_set: TrainingSet, rows: NDArray[np.int64]) -> csr_matrix:
    """Return one column per category of each field, several categories sharing a one between them."""
    from scipy.sparse import csr_matrix, hstack

    spec, inputs = training_set.spec, training_set.inputs(rows)
    blocks, number = [], np.arange(len(rows))
    sides = ((Tensor.USER_FIELDS, spec.user_fields), (Tensor.ITEM_FIELDS, spec.item_fields))
    for tensor, fields in sides:
        for column, field in enumerate(fields):
            index = inputs[tensor][:, column]
            blocks.append(csr_matrix((np.ones(len(rows)), (number, index)), shape=(len(rows), field.size)))
    start = 0
    for multi in spec.item_multi_fields:
        cells = inputs[Tensor.ITEM_MULTI][:, start : start + multi.width].astype(np.int64)
        start += multi.width
        row, place = np.nonzero(cells)
        share = 1 / np.maximum((cells > 0).sum(1), 1)
        blocks.append(csr_matrix((share[row], (row, cells[row, place])), shape=(len(rows), multi.size)))
    return hstack(blocks, format="csr")


def _numbers(training_set: TrainingSet, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return numbers, knowledge vectors and interest scalars side by side."""
    spec, inputs = training_set.spec, training_set.inputs(rows)
    names = (Tensor.USER_NUMERIC, Tensor.ITEM_NUMERIC, *spec.knowledge_tensors)
    blocks = [np.asarray(inputs[name], dtype=np.float64) for name in names if spec.width(name)]
    start = 0
    for facet in spec.interest:
        side = np.asarray(inputs[Tensor.USER_INTEREST][:, start : start + facet.dim], dtype=np.float32)
        start += facet.dim
        item = unit_rows(np.asarray(inputs[facet.against], dtype=np.float32))
        blocks.append((side * item).sum(1, keepdims=True).astype(np.float64))
    return np.concatenate([np.zeros((len(rows), 0)), *blocks], axis=1)
