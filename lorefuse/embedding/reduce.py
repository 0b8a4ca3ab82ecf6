"""Reduce text vectors to a few standardised dimensions, fitted on train items alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorefuse.errors import ArtifactError, ConfigError

REDUCER_FILE = "reducer.safetensors"


@dataclass(frozen=True)
class Reducer:
    """A fitted PCA, applied as ``(x − mean) · components / scale``.

    Attributes:
        mean: float32 (dim,).
        components: float32 (dim, E), each with its largest loading positive.
        scale: float32 (1,): one overall deviation, so that the components keep their relative weight.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: NDArray[np.float32]

    def transform(self, vectors: NDArray[np.float32], has_text: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Reduce vectors (n, dim) to (n, E), float32; rows without text stay zeros."""
        reduced = (vectors - self.mean) @ self.components / self.scale
        return (reduced * has_text[:, None]).astype(np.float32)

    def save(self, folder_path: Path) -> None:
        """Write `reducer.safetensors`."""
        from safetensors.numpy import save_file

        arrays = {"mean": self.mean, "components": self.components, "scale": self.scale}
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
            raise ArtifactError(f"{folder_path} holds no whole reducer.", got=str(error)) from None


def fit_reducer(vectors: NDArray[np.float32], rows: NDArray[np.int64], reduce_dim: int) -> Reducer:
    """Fit PCA on some rows of `vectors`.

    Args:
        vectors: Text vectors, (N, dim).
        rows: Train items that have text.
        reduce_dim: E.

    Raises:
        ConfigError: There are not enough train items with text for E components.
    """
    from sklearn.decomposition import PCA

    limit = min(len(rows), vectors.shape[1])
    if reduce_dim > limit:
        raise ConfigError(
            "embedding.reduce_dim is too large for this data.",
            expected=f"at most {limit} ({len(rows)} train items with text, encoder width {vectors.shape[1]})",
            got=str(reduce_dim),
        )
    # The exact solver, seeded signs: a rerun gives the same vectors.
    pca = PCA(reduce_dim, svd_solver="full").fit(vectors[rows].astype(np.float64))
    signs = np.sign(pca.components_[np.arange(reduce_dim), np.abs(pca.components_).argmax(1)])
    components = (pca.components_ * signs[:, None]).T
    reduced = (vectors[rows] - pca.mean_) @ components
    scale = np.array([max(float(reduced.std()), 1e-12)])
    return Reducer(pca.mean_.astype(np.float32), components.astype(np.float32), scale.astype(np.float32))
