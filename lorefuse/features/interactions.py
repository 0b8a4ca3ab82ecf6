"""Interactions as arrays: rows, their part of the split, and the tables of both sides, encoded on train rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import FeatureConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import (
    COLD,
    EVENT_TIMESTAMP,
    ITEM_ID,
    LABEL,
    ROW_ID,
    SPLIT,
    SPLIT_CODES,
    USER_ID,
    VALUE,
    Split,
)
from lorefuse.data.dataset import Dataset
from lorefuse.features.vocabulary import Vocabulary, encode_lists
from lorefuse.training_set.spec import CategoricalField, MultiField

MAX_MULTI_WIDTH = 16


@dataclass(frozen=True)
class InteractionRows:
    """Interactions in the dataset's order, then sampled negatives; R of them, the first S interactions.

    Attributes:
        user_row: int32 (R,) row of `users.parquet`.
        item_row: int32 (R,) row of `items.parquet`.
        timestamp_us: int64 (R,).
        value: float32 (R,).
        label: float32 (R,).
        split_code: uint8 (R,).
        cold: bool (R,).
        state_row: int32 (R,) the row itself, or for a negative the positive it was drawn for.
    """

    user_row: NDArray[np.int32]
    item_row: NDArray[np.int32]
    timestamp_us: NDArray[np.int64]
    value: NDArray[np.float32]
    label: NDArray[np.float32]
    split_code: NDArray[np.uint8]
    cold: NDArray[np.bool_]
    state_row: NDArray[np.int32]

    @classmethod
    def of(cls, dataset: Dataset, split: pd.DataFrame) -> InteractionRows:
        """Join the dataset's interactions with their split.

        Raises:
            ArtifactError: The split was made of other rows, or a user or item is not in its table.
        """
        events = dataset.coded_interactions()
        if not np.array_equal(events[ROW_ID], split[ROW_ID]):
            raise ArtifactError(
                "The split does not belong to this dataset.",
                expected=f"{len(events)} rows, in the dataset's order",
                got=f"{len(split)} rows",
                fix="run again: lorefuse run",
            )
        user_row = _rows_in(dataset.users()[USER_ID], events[USER_ID])
        item_row = _rows_in(dataset.items()[ITEM_ID], events[ITEM_ID])
        num_unknown = int((np.minimum(user_row, item_row) < 0).sum())
        if num_unknown:
            raise ArtifactError(
                "Some interactions have a user or an item that is not in its table.",
                got=f"{num_unknown} of {len(events)} rows",
                fix="run again: lorefuse run",
            )
        return cls(
            user_row=user_row.astype(np.int32),
            item_row=item_row.astype(np.int32),
            timestamp_us=events[EVENT_TIMESTAMP].astype("int64").to_numpy().astype(np.int64),
            value=events[VALUE].to_numpy(np.float32),
            label=events[LABEL].to_numpy(np.float32),
            split_code=split[SPLIT].map(SPLIT_CODES).to_numpy().astype(np.uint8),
            cold=split[COLD].to_numpy(bool),
            state_row=np.arange(len(events), dtype=np.int32),
        )

    def with_negatives(self, dataset: Dataset, negatives: pd.DataFrame) -> InteractionRows:
        """Append sampled negatives: the user, moment and part of their positive, label and value 0.

        Args:
            dataset: The dataset.
            negatives: row_id of the positive, item_id; see `data.negatives`.

        Raises:
            ArtifactError: An item is not in its table, or a positive is no row.
        """
        if negatives.empty:
            return self
        positive = negatives[ROW_ID].to_numpy(np.int64)
        item_row = pd.Index(dataset.items()[ITEM_ID]).get_indexer(negatives[ITEM_ID])
        if item_row.min() < 0 or positive.min() < 0 or positive.max() >= len(self.user_row):
            raise ArtifactError("The negatives do not belong to this dataset.", fix="run again: lorefuse run")
        is_cold = np.ones(len(dataset.items()), dtype=bool)
        is_cold[self.item_row[self.is_train]] = False
        zeros = np.zeros(len(positive), dtype=np.float32)
        return InteractionRows(
            user_row=np.concatenate([self.user_row, self.user_row[positive]]),
            item_row=np.concatenate([self.item_row, item_row.astype(np.int32)]),
            timestamp_us=np.concatenate([self.timestamp_us, self.timestamp_us[positive]]),
            value=np.concatenate([self.value, zeros]),
            label=np.concatenate([self.label, zeros]),
            split_code=np.concatenate([self.split_code, self.split_code[positive]]),
            cold=np.concatenate([self.cold, is_cold[item_row]]),
            state_row=np.concatenate([self.state_row, positive.astype(np.int32)]),
        )

    @property
    def is_train(self) -> NDArray[np.bool_]:
        """Rows that statistics may be fitted on, (R,)."""
        mask: NDArray[np.bool_] = self.split_code == SPLIT_CODES[Split.TRAIN]
        return mask


def _rows_in(table: pd.Series, ids: pd.Series) -> NDArray[np.int32]:
    """Return the row of each id in its table, −1 where it is not there; ids are categories."""
    rows: NDArray[np.int32] = pd.Index(table).get_indexer(ids.cat.categories).astype(np.int32)
    return rows[ids.cat.codes.to_numpy()]


@dataclass(frozen=True)
class Tables:
    """Both sides' categorical fields, encoded for every user and item.

    Attributes:
        user_fields: int64 (U, Fu).
        item_fields: int64 (N, Fi).
        item_multi: int64 (N, M).
        user_specs: Name and size of each user field, the id first.
        item_specs: Name and size of each item field, the id first.
        multi_specs: Name, size and width of each multi-valued field.
        vocabularies: By field name.
    """

    user_fields: NDArray[np.int64]
    item_fields: NDArray[np.int64]
    item_multi: NDArray[np.int64]
    user_specs: tuple[CategoricalField, ...]
    item_specs: tuple[CategoricalField, ...]
    multi_specs: tuple[MultiField, ...]
    vocabularies: dict[str, Vocabulary]


def encode_tables(dataset: Dataset, rows: InteractionRows, config: FeatureConfig) -> Tables:
    """Fit vocabularies on the users and items of train rows and encode everybody with them."""
    users, items, roles = dataset.users(), dataset.items(), dataset.roles
    train_users = np.unique(rows.user_row[rows.is_train])
    train_items = np.unique(rows.item_row[rows.is_train])
    vocabularies: dict[str, Vocabulary] = {}

    def encode(table: pd.DataFrame, train: NDArray[np.int32], names: tuple[str, ...]) -> NDArray[np.int64]:
        columns = []
        for name in names:
            minimum = 1 if name in (USER_ID, ITEM_ID) else config.min_category_count
            vocabularies[name] = Vocabulary.fit(table[name].iloc[train], minimum)
            columns.append(vocabularies[name].encode(table[name]))
        return np.stack(columns, axis=1)

    user_names = (USER_ID, *roles.user_categories)
    item_names = (ITEM_ID, *roles.item_categories)
    user_fields, item_fields = encode(users, train_users, user_names), encode(items, train_items, item_names)
    multi_specs, blocks = [], [np.zeros((len(items), 0), dtype=np.int64)]
    for name in roles.item_multi_categories:
        train_cells = items[name].iloc[train_items]
        vocabularies[name] = Vocabulary.fit(train_cells.explode().dropna(), config.min_category_count)
        width = int(np.clip(train_cells.map(len).max(), 1, MAX_MULTI_WIDTH))
        blocks.append(encode_lists(vocabularies[name], items[name], width))
        multi_specs.append(MultiField(name=name, size=vocabularies[name].size, width=width))
    return Tables(
        user_fields=user_fields,
        item_fields=item_fields,
        item_multi=np.concatenate(blocks, axis=1),
        user_specs=tuple(CategoricalField(name=n, size=vocabularies[n].size) for n in user_names),
        item_specs=tuple(CategoricalField(name=n, size=vocabularies[n].size) for n in item_names),
        multi_specs=tuple(multi_specs),
        vocabularies=vocabularies,
    )
