"""Knowledge blocks for small training sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lorefuse.training_set.spec import KnowledgeBlock


def blocks(**dims: int) -> tuple[KnowledgeBlock, ...]:
    """Describe blocks by name and width; those of width 0 are left out."""
    return tuple(KnowledgeBlock(name=name, dim=dim) for name, dim in dims.items() if dim)


def present(**vectors: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return vectors by name, those of width 0 left out."""
    return {name: matrix for name, matrix in vectors.items() if matrix.shape[1]}
