"""Reduce text vectors to a few dimensions by a linear map fitted on train items alone; one block for each facet.

How the map is fitted is in `embedding.fit`; applying it needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.embedding.facets import facets_of
from lorefuse.embedding.reducers import Fit, ReducerTarget, fit

REDUCER_FILE = "reducer.safetensors"


@dataclass(frozen=True)
class Reducer:
    """A fitted linear map, applied as ``(x − mean) · components / scale``.

    Attributes:
        mean: float32 (dim,).
        components: float32 (dim, E), each with its largest loading positive.
        scale: float32 (1,): one overall deviation, so that the components keep their relative weight; or (E,).
        input_blocks: int64 (F,), width of each facet in `dim`; None where there is one facet.
        output_blocks: int64 (F,), width of each facet in E; None where there is one facet.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: NDArray[np.float32]
    input_blocks: NDArray[np.int64] | None = None
    output_blocks: NDArray[np.int64] | None = None

    def transform(self, vectors: NDArray[np.float32], has_text: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Reduce vectors (n, dim) to (n, E), float32; rows, and blocks of rows, without text stay zeros.

        A facet that an item lacks is a block of zeros in its row, which no encoder gives for a text.
        """
        reduced = (vectors - self.mean) @ self.components / self.scale
        known = has_text[:, None]
        if self.input_blocks is not None and self.output_blocks is not None:
            parts = np.split(vectors, np.cumsum(self.input_blocks)[:-1], axis=1)
            has_facet = np.stack([part.any(1) for part in parts], axis=1)
            known = known & np.repeat(has_facet, self.output_blocks, axis=1)
        return (reduced * known).astype(np.float32)

    def affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return weight (dim, E) and bias (E,) of the same map, ``x · weight + bias``, for a runtime of one's own."""
        weight = self.components / self.scale
        return weight.astype(np.float32), (-(self.mean @ weight)).astype(np.float32)

    def save(self, folder_path: Path) -> None:
        """Write `reducer.safetensors`."""
        from safetensors.numpy import save_file

        arrays = {name: value for name, value in vars(self).items() if value is not None}
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, str(folder_path / REDUCER_FILE))

    @classmethod
    def load(cls, folder_path: Path) -> Reducer:
        """Read `reducer.safetensors`.

        Raises:
            ArtifactError: It is missing or cut short.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return cls(**load_file(str(folder_path / REDUCER_FILE)))
        except (OSError, SafetensorError, TypeError) as error:
            raise ArtifactError(f"{folder_path} holds no complete reducer.", got=str(error)) from None

    @classmethod
    def side_by_side(cls, fits: Sequence[Fit]) -> Reducer:
        """Join one fit per facet to a map whose components are block-diagonal."""
        if len(fits) == 1:
            return cls(fits[0].mean, fits[0].components, fits[0].scale)
        inputs = np.array([len(part.mean) for part in fits], dtype=np.int64)
        outputs = np.array([part.components.shape[1] for part in fits], dtype=np.int64)
        components = np.zeros((int(inputs.sum()), int(outputs.sum())), dtype=np.float32)
        for part, row, column in zip(fits, np.cumsum(inputs), np.cumsum(outputs), strict=True):
            height, width = part.components.shape
            components[row - height : row, column - width : column] = part.components
        scales = [np.broadcast_to(part.scale, (width,)) for part, width in zip(fits, outputs, strict=True)]
        return cls(np.concatenate([part.mean for part in fits]), components, np.concatenate(scales), inputs, outputs)


def fit_reducer(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    reduce_dim: int,
    kind: str = "pca",
    *,
    seed: int = 0,
    target: ReducerTarget | None = None,
) -> Reducer:
    """Fit a reducer of one facet; arguments and errors as `embedding.fit.fit`.

    Args:
        vectors: Text vectors, (N, dim).
        rows: Train items that have text.
        reduce_dim: E; `none` keeps all dimensions.
        kind: `none`, `pca`, `whitening`, `random_projection` or `supervised`.
        seed: Of the random projection.
        target: Of the supervised map.
    """
    return Reducer.side_by_side([fit(vectors, rows, reduce_dim, kind, seed=seed, target=target)])


def fit_text_reducer(
    full: NDArray[np.float32],
    has_facet: NDArray[np.bool_],
    is_train: NDArray[np.bool_],
    config: EmbeddingConfig,
    target: ReducerTarget | None = None,
) -> tuple[Reducer, dict[str, int]]:
    """Fit every facet for itself, on the train items that have it.

    Args:
        full: Vectors of all facets side by side, (N, F · dim).
        has_facet: Which texts are there, (N, F).
        is_train: Items with a train row, (N,).
        config: Facets, kind of reducer, dimensions.
        target: What the supervised reducer predicts.

    Returns:
        The reducer; and the width of each facet's block by name, 0 for a facet that no item has.

    Raises:
        ConfigError: There are not enough different train items with text for that many dimensions.
    """
    facets = facets_of(config)
    fits = []
    for facet, vectors, known in zip(facets, np.split(full, len(facets), axis=1), has_facet.T, strict=True):
        if known.any():
            rows = np.flatnonzero(is_train & known)
            part = fit(vectors, rows, facet.reduce_dim, config.reducer, seed=config.reducer_seed, target=target)
        else:
            part = Fit.nothing(vectors.shape[1])
        fits.append(part)
    widths = {facet.name: part.components.shape[1] for facet, part in zip(facets, fits, strict=True)}
    return Reducer.side_by_side(fits), widths
