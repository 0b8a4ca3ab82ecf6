"""Hashed words beside the encoder's vector: the numbers of `lorefuse.embedding.words`, without scikit-learn.

A test holds the two together.
"""

import re

import mmh3
import numpy as np

WORD = re.compile(r"(?u)\b\w+\b")


def hashed_words(texts, dim):
    """Return unit vectors, float32 (n, dim); a text without words gives zeros."""
    sums = np.zeros((len(texts), dim), np.float64)
    for row, text in zip(sums, texts, strict=True):
        for word in WORD.findall(text.lower()):
            number = mmh3.hash(word)
            row[abs(number) % dim] += 1.0 if number >= 0 else -1.0
    vectors = (np.sign(sums) * np.log1p(np.abs(sums))).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
