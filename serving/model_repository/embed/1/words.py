"""Hashed words beside the encoder's vector: the numbers of `lorefuse.embedding.words`, without scikit-learn.

A test holds the two together.
"""

import re

import numpy as np

WORD = re.compile(r"(?u)\b\w+\b")
MASK = 0xFFFFFFFF


def hashed_words(texts, dim):
    """Return unit vectors, float32 (n, dim); a text without words gives zeros."""
    sums = np.zeros((len(texts), dim), np.float64)
    for row, text in zip(sums, texts, strict=True):
        for word in WORD.findall(text.lower()):
            number = murmur3(word.encode())
            row[abs(number) % dim] += 1.0 if number >= 0 else -1.0
    vectors = (np.sign(sums) * np.log1p(np.abs(sums))).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def murmur3(data):
    """Return the signed 32-bit MurmurHash3 (Appleby, public domain) of some bytes, seed 0."""
    value = 0
    whole = len(data) - len(data) % 4
    for start in range(0, whole, 4):
        value ^= _mixed(int.from_bytes(data[start : start + 4], "little"))
        value = (_rotated(value, 13) * 5 + 0xE6546B64) & MASK
    if whole < len(data):
        value ^= _mixed(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        value = ((value ^ (value >> shift)) * factor) & MASK
    value ^= value >> 16
    return value - (1 << 32) if value >> 31 else value


def _mixed(block):
    return (_rotated((block * 0xCC9E2D51) & MASK, 15) * 0x1B873593) & MASK


def _rotated(value, bits):
    return ((value << bits) | (value >> (32 - bits))) & MASK
