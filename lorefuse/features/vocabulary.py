"""Vocabularies: text values → indices from 1, fitted on train rows; 0 stands for anything unseen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError

VOCABULARIES_FILE = "vocabularies.json"
USER_VALUES_FILE = "user_values.json"
"""Of a training set: what the indices of user fields mean, so that results by groups of users can be named."""


@dataclass(frozen=True)
class Vocabulary:
    """Distinct values in sorted order; value n has index n + 1.

    Attributes:
        values: Sorted distinct non-empty values.

    Example:
        >>> vocabulary = Vocabulary.fit(["b", "a", "b", ""])
        >>> vocabulary.encode(pd.Series(["a", "z", "b"])).tolist(), vocabulary.size
        ([1, 0, 2], 3)
    """

    values: tuple[str, ...]

    @classmethod
    def fit(cls, values: Iterable[str], min_count: int = 1) -> Vocabulary:
        """Collect values that occur at least `min_count` times; the empty text is never one."""
        counts = pd.Series(list(values), dtype=object).value_counts()
        kept = counts.index[(counts >= min_count) & (counts.index != "")]
        return cls(tuple(sorted(str(value) for value in kept)))

    @property
    def size(self) -> int:
        """Number of indices, the unseen one included."""
        return len(self.values) + 1

    def encode(self, values: pd.Series) -> NDArray[np.int64]:
        """Return the index of each value, int64; 0 where it is unseen or empty."""
        codes: NDArray[np.int64] = pd.Index(self.values, dtype=object).get_indexer(pd.Index(values.astype(object))) + 1
        return codes.astype(np.int64)

    def decode(self, indices: NDArray[np.int64]) -> list[str]:
        """Return the value of each index; the empty text for 0."""
        table = ("", *self.values)
        return [table[index] for index in indices]


def encode_lists(vocabulary: Vocabulary, cells: pd.Series, width: int) -> NDArray[np.int64]:
    """Encode a column of lists to (n, width), int64: known values first, padded with 0; what exceeds `width` is cut."""
    lists = cells.reset_index(drop=True).map(list)
    long = lists.explode().dropna()
    indices = pd.Series(vocabulary.encode(long), index=long.index)
    indices = indices[indices > 0]
    place = indices.groupby(level=0).cumcount()
    kept = place < width
    result = np.zeros((len(lists), width), dtype=np.int64)
    result[indices.index[kept], place[kept]] = indices[kept]
    return result


def save_vocabularies(vocabularies: Mapping[str, Vocabulary], folder_path: Path) -> None:
    """Write `vocabularies.json`: field → list of values."""
    write_json(folder_path / VOCABULARIES_FILE, {name: list(v.values) for name, v in vocabularies.items()})


def load_vocabularies(folder_path: Path) -> dict[str, Vocabulary]:
    """Read `vocabularies.json`.

    Raises:
        ArtifactError: It is missing or not JSON.
    """
    path = folder_path / VOCABULARIES_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        return {name: Vocabulary(tuple(values)) for name, values in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ArtifactError(f"{path} holds no vocabularies.", got=str(error)) from None


def save_user_values(vocabularies: Mapping[str, Vocabulary], fields: Sequence[str], folder_path: Path) -> None:
    """Write the values of some user fields, from index 1 on, as `user_values.json`.

    Args:
        vocabularies: By field.
        fields: Those to write; ids of users should not be among them.
        folder_path: Folder of the training set.
    """
    write_json(folder_path / USER_VALUES_FILE, {name: list(vocabularies[name].values) for name in fields})


def load_user_values(folder_path: Path) -> dict[str, list[str]]:
    """Return the values of a training set's user fields, from index 1 on; nothing where it does not say."""
    path = folder_path / USER_VALUES_FILE
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
