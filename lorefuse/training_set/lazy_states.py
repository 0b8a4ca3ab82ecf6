"""Users' interest states that are made when they are asked for, where an array of all of them would not fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class LazyStates(ABC):
    """`Tensor.USER_INTEREST` of all states, (S, V), as an array that holds no state: index it by rows.

    Attributes:
        vectors: Vectors of the items, (N, E) each, in the order of the spec's facets.
        more: Columns that stand at the end, float32 (S, X).
        kept: What has been made of all states, by name; for the callers' use.
    """

    vectors: tuple[NDArray[np.float32], ...]
    more: NDArray[np.float32]
    kept: dict[str, Any]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(S, V)."""

    @abstractmethod
    def __len__(self) -> int:
        """Return S."""

    @abstractmethod
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all states: for small sets and for tests."""

    @abstractmethod
    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Return states, float32 (B, V), given their positions or a slice; with a second index, columns of them."""

    @abstractmethod
    def products(self, number: int, state_R: NDArray[np.integer], item_R: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the dot products of states with items' unit vectors, both facets of one space: float32 (R, 2).

        Args:
            number: Of the space, as in `vectors`.
            state_R: The rows' states.
            item_R: The rows' items.
        """


Interest = NDArray[np.float32] | LazyStates
"""States that lie in a file, or that are made when they are asked for."""
