"""Row features computed in memory: the reference for the feature store's join, and the way of the control arms.

The feature store holds snapshots of the very sums used here (`causal.CausalPart`), so its point-in-time join must
give the same bits; a test holds it to that. Control arms change the item vectors and need the rows anew at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.schema import item_block
from lorefuse.features.aggregates import (
    ITEM_NUMERIC,
    USER_NUMERIC,
    interest_features,
    interest_values,
    item_features,
    item_values,
    unit_rows,
    user_features,
    user_values,
)
from lorefuse.features.causal import CausalOrder, CausalPart
from lorefuse.features.prior import ItemColumns, ItemPrior, fit_prior
from lorefuse.training_set.spec import FeatureSpec, InterestFacet

FACETS = ("liked", "centred")


@dataclass(frozen=True)
class Interactions:
    """What every aggregate is computed from: the rows, and which of them may be known.

    Attributes:
        user_row: int32 (R,).
        item_row: int32 (R,).
        timestamp_us: int64 (R,).
        label: float32 (R,).
        value: float32 (R,).
        is_train: bool (R,).
        liked: bool (R,) rows that count as liked: label 1, or for regression a value above the train mean.
    """

    user_row: NDArray[np.int32]
    item_row: NDArray[np.int32]
    timestamp_us: NDArray[np.int64]
    label: NDArray[np.float32]
    value: NDArray[np.float32]
    is_train: NDArray[np.bool_]
    liked: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        user_row: NDArray[np.int32],
        item_row: NDArray[np.int32],
        timestamp_us: NDArray[np.int64],
        label: NDArray[np.float32],
        value: NDArray[np.float32],
        is_train: NDArray[np.bool_],
        label_kind: str,
    ) -> Interactions:
        """Make a history; `label_kind` decides what counts as liked."""
        threshold = 0.5 if label_kind == "binary" else float(label[is_train].mean(dtype=np.float64))
        return cls(user_row, item_row, timestamp_us, label, value, is_train, label > threshold)

    @property
    def overall_mean(self) -> float:
        """Mean label of the train rows."""
        return float(self.label[self.is_train].mean(dtype=np.float64))

    @property
    def overall_value(self) -> float:
        """Mean value of the train rows."""
        return float(self.value[self.is_train].mean(dtype=np.float64))

    @functools.cached_property
    def user_order(self) -> CausalOrder:
        """Rows by user and time."""
        return CausalOrder.of(self.user_row, self.timestamp_us)

    @functools.cached_property
    def user_mean(self) -> NDArray[np.float32]:
        """Mean label of each row's user as of the row, shrunk: (R,)."""
        mean = np.empty(len(self.label), dtype=np.float32)
        for part in self.user_parts():
            mean[part.rows] = user_features(part.sums.before(), self.overall_mean)[:, 1]
        return mean

    def user_parts(self) -> Iterator[CausalPart]:
        """Yield the running sums of `aggregates.user_values`."""
        return self.user_order.stream(lambda rows: user_values(self.label[rows], self.value[rows], self.is_train[rows]))

    def item_parts(self) -> Iterator[CausalPart]:
        """Yield the running sums of `aggregates.item_values`."""
        mean = self.user_mean
        return CausalOrder.of(self.item_row, self.timestamp_us).stream(
            lambda rows: item_values(self.label[rows], mean[rows], self.is_train[rows])
        )

    def interest_parts(self, vectors: NDArray[np.float32], width: int = 0) -> Iterator[CausalPart]:
        """Yield the running sums of `aggregates.interest_values` per user for item vectors (N, E).

        Args:
            vectors: Of the items.
            width: E of the widest vectors whose parts these are to be met with; default: these.
        """
        unit = unit_rows(vectors)

        def values(rows: NDArray[np.int32]) -> NDArray[np.float64]:
            return interest_values(unit, self.item_row[rows], self.value[rows], self.liked[rows], self.is_train[rows])

        return self.user_order.stream(values, 3 * max(width, vectors.shape[1]) + 3)


def interest_facets(dims: Mapping[str, int]) -> tuple[InterestFacet, ...]:
    """Return the parts of `Tensor.USER_INTEREST` that knowledge blocks give rise to.

    Args:
        dims: Width of each block, by name.
    """
    return tuple(
        InterestFacet(name=f"{facet}_{name}", against=item_block(name), dim=dim)
        for name, dim in dims.items()
        for facet in FACETS
    )


def user_numeric_rows(history: Interactions) -> NDArray[np.float32]:
    """Return `Tensor.USER_NUMERIC` as of every row, (R, Pu)."""
    result = np.empty((len(history.label), len(USER_NUMERIC)), dtype=np.float32)
    for part in history.user_parts():
        result[part.rows] = user_features(part.sums.before(), history.overall_mean)
    return result


def item_numeric_rows(history: Interactions, prior: ItemPrior) -> NDArray[np.float32]:
    """Return `Tensor.ITEM_NUMERIC` as of every row, (R, Pi)."""
    result = np.empty((len(history.label), len(ITEM_NUMERIC)), dtype=np.float32)
    for part in history.item_parts():
        result[part.rows, :-1] = item_features(part.sums.before(), history.overall_mean)
    result[:, -1] = prior.values[history.item_row]
    return result


def item_numeric_now(history: Interactions, prior: ItemPrior) -> NDArray[np.float32]:
    """Return `Tensor.ITEM_NUMERIC` of every item after all train rows, (N, Pi): what the online store holds."""
    last = np.zeros((len(prior.values), 3))
    for part in history.item_parts():
        rows, after = part.snapshots(history.is_train)
        last[history.item_row[rows]] = after  # in order of time: an item's last one stays
    return np.concatenate([item_features(last, history.overall_mean), prior.values[:, None]], axis=1)


def user_interest_rows(
    history: Interactions, knowledge: Mapping[str, NDArray[np.float32]], shrinkage: float
) -> NDArray[np.float32]:
    """Return `Tensor.USER_INTEREST` as of every row, (R, V), for the knowledge blocks of the items."""
    width = 2 * sum(vectors.shape[1] for vectors in knowledge.values())
    result = np.empty((len(history.label), width), dtype=np.float32)
    start = 0
    for vectors in knowledge.values():
        end = start + 2 * vectors.shape[1]
        for part in history.interest_parts(vectors):
            sides = interest_features(part.sums.before(), history.overall_value, shrinkage)
            result[part.rows, start:end] = np.concatenate(sides, axis=1)
        start = end
    return result


def multi_offsets(spec: FeatureSpec) -> tuple[int, ...]:
    """Return how far each column of `Tensor.ITEM_MULTI` is shifted so that fields do not overlap, then the total."""
    offsets, start = [], 0
    for field in spec.item_multi_fields:
        offsets += [start] * field.width
        start += field.size - 1
    return (*offsets, start + 1)


def item_prior(
    history: Interactions,
    knowledge: Mapping[str, NDArray[np.float32]],
    item_fields: NDArray[np.int64],
    item_multi: NDArray[np.int64],
    spec: FeatureSpec,
    *,
    shrinkage: float,
    num_folds: int,
) -> ItemPrior:
    """Fit the item prior on train rows; see `prior.fit_prior`.

    Args:
        history: The rows.
        knowledge: Vectors of the items by block, (N, E) each.
        item_fields: (N, Fi), the id first (left out here).
        item_multi: (N, M).
        spec: Sizes of the fields.
        shrinkage: κ of the item weights.
        num_folds: Folds of items.
    """
    columns = _item_columns(knowledge, item_fields, item_multi, spec)
    num_items = len(item_fields)
    train = history.is_train
    count = np.bincount(history.item_row[train], minlength=num_items).astype(np.float64)
    total = np.bincount(history.item_row[train], history.label[train], num_items).astype(np.float64)
    return fit_prior(columns, count, total, shrinkage=shrinkage, num_folds=num_folds, seed=0)


def item_columns(
    knowledge: Mapping[str, NDArray[np.float32]],
    item_fields: NDArray[np.int64],
    item_multi: NDArray[np.int64],
    spec: FeatureSpec,
) -> NDArray[np.float32]:
    """Return the prior's columns for catalogue items or new ones; arguments as in `item_prior`."""
    return _item_columns(knowledge, item_fields, item_multi, spec)[slice(None)]


def _item_columns(
    knowledge: Mapping[str, NDArray[np.float32]],
    item_fields: NDArray[np.int64],
    item_multi: NDArray[np.int64],
    spec: FeatureSpec,
) -> ItemColumns:
    sizes = tuple(field.size for field in spec.item_fields[1:])
    return ItemColumns(tuple(knowledge.values()), item_multi, item_fields[:, 1:], multi_offsets(spec), sizes)
