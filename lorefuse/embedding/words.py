"""The words of a text as a vector of their own: what an encoder of sentences blurs, a brand or a size, stays sharp.

Stateless: a word's place is its hash, so nothing is fitted, a new item needs no vocabulary, and equal texts have equal
vectors on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORD = r"(?u)\b\w+\b"


def hashed_words(texts: list[str], dim: int) -> NDArray[np.float32]:
    """Hash the words of texts to unit vectors, (n, dim), float32; a text without words gives zeros.

    A word adds ±log(1 + how often it stands there) at its place, lower-cased; the sign, also by hash, lets words that
    meet in one place cancel rather than add up.

    Args:
        texts: Any texts.
        dim: Number of places.

    Example:
        >>> one, same, other = hashed_words(["OPI nail lacquer", "opi Nail, lacquer!", "hair oil"], 512)
        >>> float(one @ same), round(abs(float(one @ other)), 3)
        (1.0, 0.0)

    Source: feature hashing, arXiv:0902.2206, by scikit-learn's HashingVectorizer.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    counts = HashingVectorizer(n_features=dim, norm=None, token_pattern=_WORD).transform(texts)
    counts.data = np.sign(counts.data) * np.log1p(np.abs(counts.data))
    vectors = counts.toarray().astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit
