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
    """Fit PCA on some rows of `vectors`; signs and solver are fixed, so a rerun gives the same bytes.

    Args:
        vectors: Text vectors, (N, dim).
        rows: Train items that have text.
        reduce_dim: E, at most the rank of the centred rows.

    Returns:
        The reducer; reduced train vectors have mean 0 and overall deviation 1.

    Raises:
        ConfigError: There are not enough different train items with text for E components.
    """
    from sklearn.decomposition import PCA

    limit = min(len(rows), vectors.shape[1])
    # All components first: their spread tells how many directions the train items really differ in.
    pca = PCA(limit, svd_solver="covariance_eigh").fit(vectors[rows].astype(np.float64)) if len(rows) > 1 else None
    spread = pca.singular_values_ if pca is not None else np.zeros(0)
    rank = int((spread > 1e-5 * max(1.0, float(spread[0]))).sum()) if len(spread) else 0
    if pca is None or reduce_dim > rank:
        raise ConfigError(
            f"embedding.reduce_dim {reduce_dim} is too large for this data.",
            expected=f"at most {rank}: {len(rows)} train items with text differ in {rank} directions "
            f"(encoder width {vectors.shape[1]})",
            got=str(reduce_dim),
            fix=f"set embedding.reduce_dim to {rank} or less" if rank else "bring items whose texts differ",
        )
    components = pca.components_[:reduce_dim]
    signs = np.sign(components[np.arange(reduce_dim), np.abs(components).argmax(1)])
    components = (components * signs[:, None]).T
    reduced = (vectors[rows] - pca.mean_) @ components
    scale = np.array([reduced.std()])
    return Reducer(pca.mean_.astype(np.float32), components.astype(np.float32), scale.astype(np.float32))
