"""Can a text be told from the vector that a model carries? Texts of items are public: this is for information.

Suffixes: ``N`` items, ``E`` width of the encoder's vectors, ``P`` width of the stored ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_TARGETS = 5000
RIDGE = 1.0


def text_reconstruction(
    stored_NP: NDArray[np.float32], full_NE: NDArray[np.float32], seed: int = 0
) -> dict[str, Any] | None:
    """Return how often a stored vector leads back to its item's text among all texts.

    Args:
        stored_NP: Text vectors as the bundle holds them (reduced); zeros where an item has no text.
        full_NE: The encoder's vectors of the texts, which whoever has the texts can make.
        seed: Of the halves.

    Returns:
        ``distinct``: share of items with a text whose stored vector is that of no other text, which is how often
        somebody finds it who also has the reducer; ``learned``: share found as the nearest of all by somebody who has
        no reducer, but knows which texts belong to a random half of the items, and maps full to stored vectors by
        ridge regression on these (judged on the other half); ``guessing``: 1 / number of texts; ``num_items``. None
        where fewer than four items have a text.
    """
    from sklearn.linear_model import Ridge

    has_text = (full_NE != 0).any(axis=1) & (stored_NP != 0).any(axis=1)
    stored, full = _unit(stored_NP[has_text]), _unit(full_NE[has_text])
    if len(stored) < 4:
        return None
    _, text_N = np.unique(full, axis=0, return_inverse=True)
    _, vector_N = np.unique(stored, axis=0, return_inverse=True)
    pairs = np.unique(np.stack([vector_N, text_N]), axis=1)
    texts_of_vector = np.bincount(pairs[0])
    order = np.random.default_rng(seed).permutation(len(stored))
    known, unknown = order[: len(order) // 2], order[len(order) // 2 :][:MAX_TARGETS]
    guess_NP = _unit(Ridge(alpha=RIDGE / len(known)).fit(full[known], stored[known]).predict(full))
    nearest = np.concatenate(
        [(stored[part] @ guess_NP.T).argmax(axis=1) for part in np.array_split(unknown, -(-len(unknown) // 500))]
    )
    return {
        "distinct": float((texts_of_vector[vector_N] == 1).mean()),
        "learned": float((text_N[nearest] == text_N[unknown]).mean()),
        "guessing": 1 / int(text_N.max() + 1),
        "num_items": len(stored),
    }


def _unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
