"""The item prior: what an item's knowledge alone says about how well it is liked.

A ridge regression from knowledge and category columns to the item's mean train label, each item weighted by
n / (n + κ). It is solved from sums over items, so that memory grows with the square of the columns and with no item. An
item with train rows gets its prior from folds that did not see it: in training that keeps its own
labels out of its features, and in serving it keeps the feature's meaning the same as in training. An item without
train rows, or one that is brand new, gets it from the fit on all train items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError

PRIOR_FILE = "item_prior.safetensors"
RIDGE_ALPHA = 2.0
MIN_TRAIN_ITEMS = 20
ITEMS_AT_A_TIME = 1024
"""Items whose columns are there at once."""


@dataclass(frozen=True)
class ItemPrior:
    """A fitted prior.

    Attributes:
        weights: float32 (P,) of the fit on all train items.
        intercept: float32 (1,).
        values: float32 (N,) the prior of every catalogue item: out-of-fold for train items.
    """

    weights: NDArray[np.float32]
    intercept: NDArray[np.float32]
    values: NDArray[np.float32]

    def predict(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the prior of new items from their columns (n, P): float32 (n,)."""
        predicted: NDArray[np.float32] = (columns @ self.weights + self.intercept).astype(np.float32)
        return predicted

    def save(self, folder_path: Path) -> None:
        """Write `item_prior.safetensors`."""
        from safetensors.numpy import save_file

        save_file(
            {"weights": self.weights, "intercept": self.intercept, "values": self.values},
            str(folder_path / PRIOR_FILE),
        )

    @classmethod
    def load(cls, folder_path: Path) -> ItemPrior:
        """Read `item_prior.safetensors`.

        Raises:
            ArtifactError: It is missing or cut short.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return cls(**load_file(str(folder_path / PRIOR_FILE)))
        except (OSError, SafetensorError, TypeError) as error:
            raise ArtifactError(f"{folder_path} holds no complete item prior.", got=str(error)) from None


def prior_columns(
    knowledge: Sequence[NDArray[np.float32]],
    item_multi_NM: NDArray[np.int64],
    item_fields_NF: NDArray[np.int64],
    multi_offsets: tuple[int, ...],
    field_sizes: tuple[int, ...],
) -> NDArray[np.float32]:
    """Return the regression's columns, (N, P): knowledge, multi-category flags, category flags.

    Args:
        knowledge: Vectors of the items, (N, E) each.
        item_multi_NM: Padded multi-category indices; 0 is padding.
        item_fields_NF: Category indices, the id not among them; 0 is unseen and gets no flag.
        multi_offsets: How far each column of `item_multi_NM` is shifted so that fields do not overlap, then the total.
        field_sizes: Vocabulary size of each category field.
    """
    num_items = len(item_multi_NM)
    flags = np.zeros((num_items, multi_offsets[-1]), dtype=np.float32)
    if item_multi_NM.size:
        shifted = item_multi_NM + np.asarray(multi_offsets[:-1], dtype=np.int64)
        flags[np.arange(num_items)[:, None], np.where(item_multi_NM > 0, shifted, 0)] = 1.0
    blocks = [*knowledge, flags[:, 1:]]
    for n, size in enumerate(field_sizes):
        one_hot = np.zeros((num_items, size), dtype=np.float32)
        one_hot[np.arange(num_items), item_fields_NF[:, n]] = 1.0
        blocks.append(one_hot[:, 1:])
    return np.concatenate([block.reshape(num_items, -1) for block in blocks], axis=1)


@dataclass(frozen=True)
class ItemColumns:
    """`prior_columns` of a catalogue, made for the rows that are asked for: with many categories they are wide.

    Attributes:
        knowledge, item_multi, item_fields, multi_offsets, field_sizes: As for `prior_columns`.
    """

    knowledge: tuple[NDArray[np.float32], ...]
    item_multi: NDArray[np.int64]
    item_fields: NDArray[np.int64]
    multi_offsets: tuple[int, ...]
    field_sizes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(N, P)."""
        flags = self.multi_offsets[-1] - 1 + sum(size - 1 for size in self.field_sizes)
        return len(self.item_multi), sum(vectors.shape[1] for vectors in self.knowledge) + flags

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Return the columns of some items, (n, P)."""
        knowledge = [vectors[rows] for vectors in self.knowledge]
        given = (self.item_multi[rows], self.item_fields[rows])
        return prior_columns(knowledge, *given, self.multi_offsets, self.field_sizes)


def fit_prior(
    columns_NP: NDArray[np.float32] | ItemColumns,
    count_N: NDArray[np.float64],
    label_sum_N: NDArray[np.float64],
    *,
    shrinkage: float,
    num_folds: int,
    seed: int,
) -> ItemPrior:
    """Fit the prior on train rows.

    Args:
        columns_NP: From `prior_columns`, or what makes them.
        count_N: Train rows per item.
        label_sum_N: Sum of train labels per item.
        shrinkage: κ of the weights n / (n + κ).
        num_folds: Folds of items.
        seed: Of the folds.

    Returns:
        The prior; with too few train items to learn from, the overall mean for every item. Items of which nothing is
        known (P = 0) get the weighted mean of the train items, their own fold left out. Where all train labels are the
        same (data that knows only what people took) it predicts log1p of an item's train rows.
    """
    train = np.flatnonzero(count_N > 0)
    overall = float(label_sum_N.sum() / max(count_N.sum(), 1))
    num_items, width = columns_NP.shape
    if len(train) < max(MIN_TRAIN_ITEMS, num_folds):
        constant = np.full(num_items, overall, dtype=np.float32)
        return ItemPrior(np.zeros(width, np.float32), np.array([overall], np.float32), constant)
    target = label_sum_N[train] / count_N[train]
    weight = count_N[train] / (count_N[train] + shrinkage)
    if np.ptp(target) < 1e-9:
        # Where people only take, no item is liked less than another; how often it is taken stands in, on a log scale.
        target, weight = np.log1p(count_N[train]), np.ones(len(train))

    fold = np.random.default_rng(seed).permutation(len(train)) % num_folds
    ridge = _Ridge(columns_NP, train, target, weight, fold, num_folds)
    values = np.empty(num_items, dtype=np.float32)
    coefficients, intercept = ridge.fit()
    _predict(columns_NP, np.arange(num_items), coefficients, intercept, values)
    for number in range(num_folds):
        _predict(columns_NP, train[fold == number], *ridge.fit(number), values)
    return ItemPrior(coefficients.astype(np.float32), np.array([intercept], np.float32), values)


class _Ridge:
    """Weighted ridges over all items and without each fold, from sums: memory does not grow with the items.

    Args:
        columns: The regression's columns, (N, P).
        items: Those that are learned from, n of them.
        target: Their targets, (n,).
        weight: Their weights, (n,).
        fold: Their folds, (n,).
        num_folds: How many there are.
    """

    def __init__(
        self,
        columns: NDArray[np.float32] | ItemColumns,
        items: NDArray[np.int64],
        target: NDArray[np.float64],
        weight: NDArray[np.float64],
        fold: NDArray[np.int64],
        num_folds: int,
    ) -> None:
        self._columns, self._items, self._weight, self._fold = columns, items, weight, fold
        # What holds labels is summed fold by fold, so that nothing of a fold is left where it is left out.
        total, weights = (np.bincount(fold, of, num_folds) for of in (weight * target, weight))
        self._total_F, self._weight_F = total, weights
        self._mixed_FP, self._sum_FP = (np.zeros((num_folds, columns.shape[1])) for _ in range(2))
        for number in range(num_folds):
            for part in _parts(np.flatnonzero(fold == number)):
                block = columns[items[part]].astype(np.float64)
                self._mixed_FP[number] += (weight[part] * target[part]) @ block
                self._sum_FP[number] += weight[part] @ block
        self._product_PP = np.zeros((columns.shape[1],) * 2, order="F")
        self._product_PP = self._added(self._product_PP, np.arange(len(items)), 1.0)

    def fit(self, left_out: int | None = None) -> tuple[NDArray[np.float64], float]:
        """Return the coefficients (P,) and the intercept, which is not penalised.

        Args:
            left_out: A fold that is not learned from.
        """
        from scipy.linalg import lapack

        kept = np.arange(len(self._total_F)) != left_out
        weight = self._weight_F[kept].sum()
        mean_P, mean = self._sum_FP[kept].sum(0) / weight, float(self._total_F[kept].sum() / weight)
        if not len(mean_P):  # nothing is known but the mean
            return mean_P, mean
        product_PP = self._product_PP.copy("F")
        if left_out is not None:
            product_PP = self._added(product_PP, np.flatnonzero(self._fold == left_out), -1.0)
        product_PP = _rank_update(product_PP, mean_P[:, None], -weight)
        product_PP[np.diag_indices_from(product_PP)] += RIDGE_ALPHA
        right_P = self._mixed_FP[kept].sum(0) - weight * mean_P * mean
        _, coefficients_P, _ = lapack.dposv(product_PP, right_P, lower=1, overwrite_a=1)
        return coefficients_P, float(mean - mean_P @ coefficients_P)

    def _added(self, product_PP: NDArray[np.float64], places: NDArray[np.int64], sign: float) -> NDArray[np.float64]:
        """Return Σ w · x · xᵀ with some items added or, with sign −1, taken out."""
        for part in _parts(places):
            block = self._columns[self._items[part]].astype(np.float64) * np.sqrt(self._weight[part])[:, None]
            product_PP = _rank_update(product_PP, block.T, sign)
        return product_PP


def _rank_update(product_PP: NDArray[np.float64], left_PK: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Return ``product + factor · left · leftᵀ`` in place, the lower triangle alone."""
    from scipy.linalg import blas

    updated: NDArray[np.float64] = product_PP
    if len(product_PP):
        updated = blas.dsyrk(factor, left_PK, beta=1.0, c=product_PP, lower=1, overwrite_c=1)
    return updated


def _parts(places: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(places), ITEMS_AT_A_TIME):
        yield places[start : start + ITEMS_AT_A_TIME]


def _predict(
    columns_NP: NDArray[np.float32] | ItemColumns,
    items: NDArray[np.int64],
    coefficients_P: NDArray[np.float64],
    intercept: float,
    values_N: NDArray[np.float32],
) -> None:
    """Write what a regression says of some items to their places, block by block."""
    for part in _parts(items):
        values_N[part] = columns_NP[part] @ coefficients_P + intercept
