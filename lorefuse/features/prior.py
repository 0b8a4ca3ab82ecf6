"""The item prior: what an item's knowledge alone says about how well it is liked.

A ridge regression from text, graph and category columns to the item's mean train label, each item weighted by
n / (n + κ). An item with train rows gets its prior from folds that did not see it: in training that keeps its own
labels out of its features, and in serving it keeps the feature's meaning the same as in training. An item without
train rows, or one that is brand new, gets it from the fit on all train items.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorefuse.errors import ArtifactError

PRIOR_FILE = "item_prior.safetensors"
RIDGE_ALPHA = 2.0
MIN_TRAIN_ITEMS = 20


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
            raise ArtifactError(f"{folder_path} holds no whole item prior.", got=str(error)) from None


def prior_columns(
    text_NE: NDArray[np.float32],
    graph_NG: NDArray[np.float32],
    item_multi_NM: NDArray[np.int64],
    item_fields_NF: NDArray[np.int64],
    multi_offsets: tuple[int, ...],
    field_sizes: tuple[int, ...],
) -> NDArray[np.float32]:
    """Return the regression's columns, (N, P): knowledge, multi-category flags, category flags.

    Args:
        text_NE: Reduced text vectors.
        graph_NG: Graph vectors.
        item_multi_NM: Padded multi-category indices; 0 is padding.
        item_fields_NF: Category indices, the id not among them; 0 is unseen and gets no flag.
        multi_offsets: How far each column of `item_multi_NM` is shifted so that fields do not overlap, then the total.
        field_sizes: Vocabulary size of each category field.
    """
    num_items = len(text_NE)
    flags = np.zeros((num_items, multi_offsets[-1]), dtype=np.float32)
    if item_multi_NM.size:
        shifted = item_multi_NM + np.asarray(multi_offsets[:-1], dtype=np.int64)
        flags[np.arange(num_items)[:, None], np.where(item_multi_NM > 0, shifted, 0)] = 1.0
    blocks = [text_NE, graph_NG, flags[:, 1:]]
    blocks += [np.eye(size, dtype=np.float32)[item_fields_NF[:, n], 1:] for n, size in enumerate(field_sizes)]
    return np.concatenate([block.reshape(num_items, -1) for block in blocks], axis=1)


def fit_prior(
    columns_NP: NDArray[np.float32],
    count_N: NDArray[np.float64],
    label_sum_N: NDArray[np.float64],
    *,
    shrinkage: float,
    num_folds: int,
    seed: int,
) -> ItemPrior:
    """Fit the prior on train rows.

    Args:
        columns_NP: From `prior_columns`.
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
    from sklearn.linear_model import Ridge

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

    # A regression wants a column: one that says nothing gets no weight and leaves the mean.
    column = columns_NP if width else np.zeros((num_items, 1), np.float32)

    def fit(rows: NDArray[np.int64]) -> Ridge:
        return Ridge(RIDGE_ALPHA).fit(column[train[rows]], target[rows], sample_weight=weight[rows])

    every = fit(np.arange(len(train)))
    values = every.predict(column).astype(np.float32)
    fold = np.random.default_rng(seed).permutation(len(train)) % num_folds
    for number in range(num_folds):
        inside = fold == number
        values[train[inside]] = fit(np.flatnonzero(~inside)).predict(column[train[inside]])
    return ItemPrior(every.coef_[:width].astype(np.float32), np.array([every.intercept_], np.float32), values)
