"""The training set: arrays in one safetensors file, with the spec and the vocabularies that explain them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import SPLIT_CODES, Split, Tensor, item_block
from lorefuse.training_set.lazy_states import Interest
from lorefuse.training_set.mapped import mapped_arrays
from lorefuse.training_set.spec import FeatureSpec

ARRAYS_FILE = "training_set.safetensors"


@dataclass(frozen=True)
class TrainingSet:
    """Everything a ranker is trained and judged on. ``R`` rows, ``S`` states, ``U`` users, ``N`` items.

    The first S rows are the dataset's interactions; sampled negatives, if there are any, follow. A negative shares its
    user, its moment and so its user's state with the positive it was drawn for. Static sides are tables addressed by
    `user_row` and `item_row` (positions in the dataset's `users.parquet` and `items.parquet`, held-out and unseen ones
    included); what changes with time stands in the rows and states.

    Attributes:
        spec: Names and widths.
        user_row: int32 (R,) row of the user table.
        item_row: int32 (R,) row of the item table.
        timestamp_us: int64 (R,) microseconds since 1970 in UTC.
        value: float32 (R,) rating or event value.
        label: float32 (R,) 0/1 or, for regression, the value.
        split_code: uint8 (R,) codes of `contract.SPLIT_CODES`.
        cold: bool (R,) rows whose item has no training row.
        state_row: int32 (R,) row of the three tables that follow: its own number, or its positive's.
        user_numeric: float32 (S, Pu) as of the row's time.
        user_interest: float32 (S, V) as of the row's time; of an arm, states that are made when asked for.
        user_history: int32 (S, L) item rows + 1 of the recent liked items as of the row's time, oldest first, padded
            with 0 on the left.
        item_numeric: float32 (R, Pi) as of the row's time; the prior out-of-fold for train rows.
        user_fields: int64 (U, Fu).
        item_fields: int64 (N, Fi).
        item_multi: int64 (N, M).
        item_numeric_now: float32 (N, Pi) as of the data cutoff: what serving reads.
        knowledge: Vectors of the items by name of their block, float32 (N, E) each, in the order of `spec.knowledge`.
    """

    spec: FeatureSpec
    user_row: NDArray[np.int32]
    item_row: NDArray[np.int32]
    timestamp_us: NDArray[np.int64]
    value: NDArray[np.float32]
    label: NDArray[np.float32]
    split_code: NDArray[np.uint8]
    cold: NDArray[np.bool_]
    state_row: NDArray[np.int32]
    user_numeric: NDArray[np.float32]
    user_interest: Interest
    user_history: NDArray[np.int32]
    item_numeric: NDArray[np.float32]
    user_fields: NDArray[np.int64]
    item_fields: NDArray[np.int64]
    item_multi: NDArray[np.int64]
    item_numeric_now: NDArray[np.float32]
    knowledge: Mapping[str, NDArray[np.float32]]

    @property
    def num_rows(self) -> int:
        """Number of rows, all splits and sampled negatives together."""
        return len(self.label)

    @property
    def num_states(self) -> int:
        """Number of interactions, S; rows from here on are sampled negatives."""
        return len(self.user_numeric)

    def rows_of(self, split: Split) -> NDArray[np.int64]:
        """Return the positions of the rows of one split, in order."""
        return np.flatnonzero(self.split_code == SPLIT_CODES[split])

    @property
    def num_items(self) -> int:
        """Number of items of the catalogue, N."""
        return len(self.item_fields)

    def item_table(self, tensor: str) -> NDArray[np.float32]:
        """Return the vectors of the knowledge block that is this input, (N, E)."""
        return next(self.knowledge[block.name] for block in self.spec.knowledge if block.tensor == tensor)

    def item_tables(self) -> dict[str, NDArray[Any]]:
        """Return the item tensors of the whole catalogue as serving sees them, by name, (N, ·) each."""
        arrays: dict[str, NDArray[Any]] = {
            Tensor.ITEM_FIELDS.value: self.item_fields,
            Tensor.ITEM_MULTI.value: self.item_multi,
            Tensor.ITEM_NUMERIC.value: self.item_numeric_now,
            **{block.tensor: self.knowledge[block.name] for block in self.spec.knowledge},
        }
        return {name: arrays[name] for name in self.spec.item_tensors}

    def inputs(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Return the model's input tensors for some rows, keyed by name; tensors of width 0 are left out."""
        users, items, states = self.user_row[rows], self.item_row[rows], self.state_row[rows]
        tensors: dict[str, NDArray[np.generic]] = {
            Tensor.USER_FIELDS: self.user_fields[users],
            Tensor.USER_NUMERIC: self.user_numeric[states],
            Tensor.USER_INTEREST: self.user_interest[states],
            Tensor.USER_HISTORY: self.user_history[states].astype(np.int64),
            Tensor.ITEM_FIELDS: self.item_fields[items],
            Tensor.ITEM_MULTI: self.item_multi[items],
            Tensor.ITEM_NUMERIC: self.item_numeric[rows],
            **{block.tensor: self.knowledge[block.name][items] for block in self.spec.knowledge},
        }
        return {name: tensors[name] for name in (*self.spec.user_tensors, *self.spec.item_tensors)}

    def save(self, folder_path: Path) -> None:
        """Write arrays and spec into a folder (which the caller makes appear atomically)."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(array) for name, array in self._arrays().items()}
        save_file(arrays, str(folder_path / ARRAYS_FILE))
        self.spec.save(folder_path)

    @classmethod
    def load(cls, folder_path: Path) -> TrainingSet:
        """Open a training set; its arrays are mapped, see `mapped.mapped_arrays`.

        Raises:
            ArtifactError: A file is missing, truncated, or its widths differ from the spec.
        """
        from safetensors import SafetensorError

        path = folder_path / ARRAYS_FILE
        try:
            spec, arrays = FeatureSpec.load(folder_path), mapped_arrays(path)
            knowledge = {block.name: arrays.pop(block.tensor) for block in spec.knowledge}
            loaded = cls(spec=spec, knowledge=knowledge, **arrays)
        except (OSError, SafetensorError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"{path} is not a whole training set.", got=str(error), fix="build it again: lorefuse run"
            ) from None
        loaded.check()
        return loaded

    def check(self) -> None:
        """Raise ArtifactError where an array's width differs from the spec's or rows do not line up."""
        of_rows = ("item_row", "label", "value", "split_code", "cold", "state_row", Tensor.ITEM_NUMERIC.value)
        rows = {len(getattr(self, name)) for name in of_rows}
        states = {len(getattr(self, tensor.value)) for tensor in _STATES}
        if rows != {len(self.user_row)} or len(states) != 1:
            raise ArtifactError(
                "The training set's rows do not line up.", got=f"row counts {sorted(rows)}, states {sorted(states)}"
            )
        if len(self.state_row) and not 0 <= self.state_row.min() <= self.state_row.max() < self.num_states:
            raise ArtifactError("A row's user state is missing.", got=f"{self.num_states} states")
        arrays = {name.value: getattr(self, name.value) for name in (*_TABLES, *_STATES, Tensor.ITEM_NUMERIC)}
        for name, array in {**arrays, **self._blocks()}.items():
            if self.spec.width(name) != array.shape[1]:
                expected, got = f"width {self.spec.width(name)}", str(array.shape[1])
                raise ArtifactError(f"{name} does not fit its spec.", expected=expected, got=got)

    def _blocks(self) -> dict[str, NDArray[np.float32]]:
        return {item_block(name): array for name, array in self.knowledge.items()}

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        names = [field.name for field in dataclasses.fields(self) if field.name not in ("spec", "knowledge")]
        return {**{name: getattr(self, name) for name in names}, **self._blocks()}


_TABLES = (Tensor.USER_FIELDS, Tensor.ITEM_FIELDS, Tensor.ITEM_MULTI)
_STATES = (Tensor.USER_NUMERIC, Tensor.USER_INTEREST, Tensor.USER_HISTORY)
