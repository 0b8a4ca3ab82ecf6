"""Vectors are looked at as they are made: what says nothing about its text must not be trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ArtifactError

MIN_TEXTS = 8
"""Different texts that may have one vector: an encoder that reads small letters alone takes ``Tea`` for ``tea``."""
_SAME = 1e-5
"""Of a vector's length; the last bits differ by how texts are packed."""
_CHUNK = 1 << 16


def check_finite(vectors: NDArray[np.float32], config: EmbeddingConfig) -> None:
    """Refuse vectors (n, dim) that are no numbers.

    Raises:
        ArtifactError: One of them is not finite.
    """
    num_broken = sum(int((~np.isfinite(part).all(axis=1)).sum()) for part in _parts(vectors))
    if num_broken:
        damaged = "bring an encoder whose weights are whole: embedding.encoder"
        raise ArtifactError(
            f"The encoder {config.encoder} gave vectors that are not finite.",
            expected="numbers",
            got=f"NaN or infinity for {num_broken} of {len(vectors)} texts",
            fix=damaged if config.dtype == "float32" else "set embedding.dtype: float32",
        )


def check_spread(vectors: NDArray[np.float32], config: EmbeddingConfig) -> None:
    """Refuse vectors of different texts, (n, dim), that are all one vector.

    Raises:
        ArtifactError: They are.
    """
    if len(vectors) < MIN_TEXTS:
        return
    limit = _SAME * float(np.linalg.norm(vectors[0]))
    if all((np.abs(part - vectors[0]).max(axis=1) <= limit).all() for part in _parts(vectors)):
        raise ArtifactError(
            f"The encoder {config.encoder} gave one and the same vector for every text.",
            expected="vectors that differ where texts do",
            got=f"{len(vectors)} different texts, one vector",
            fix="check its weights, its tokenizer (does it know the script of these texts?) and embedding.pooling, "
            "or set embedding.encoder to another",
        )


def _parts(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (vectors[start : start + _CHUNK] for start in range(0, len(vectors), _CHUNK))
