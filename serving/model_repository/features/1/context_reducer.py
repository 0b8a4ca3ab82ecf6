"""What the user asked just now: the encoder's vector of a text → the block of the user tensors that the model reads."""

import os

import numpy as np
from recommend_request import RequestError

CONTEXT_FACET, CONTEXT_FILE = "context_text", "context.npz"
CONTEXT_NAME = "context_vector"


class ContextReducer:
    """The map of one version, the one that reduces the text of its items.

    Args:
        mean: (D,), of the first facet, whose place a question takes.
        components: (D, E).
        scale: (1,) or (E,).
        num_facets: `embed` answers with the blocks of all facets, of which the first is the text's.
    """

    def __init__(self, mean, components, scale, num_facets):
        self.mean, self.components, self.scale = mean, components, scale
        self.widths = (len(mean), len(mean) * int(num_facets))

    @classmethod
    def of(cls, folder):
        """Read `context.npz` of a version folder."""
        with np.load(os.path.join(folder, CONTEXT_FILE), allow_pickle=False) as arrays:
            return cls(**arrays)

    def blocks(self, given):
        """Return B blocks of unit length, float32 (B, E), zeros where a row is zeros.

        Args:
            given: Vectors of the encoder, (B, D) or what `embed` answers with.
        """
        if given.shape[1] not in self.widths:
            raise RequestError(f"context_vector has {given.shape[1]} dimensions; this model reads {self.widths[0]}")
        if not np.isfinite(given).all():
            raise RequestError("context_vector holds a number that is not finite")
        given = given[:, : self.widths[0]]
        reduced = (given - self.mean) @ self.components / self.scale * given.any(1, keepdims=True)
        return (reduced / np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def context_vectors(inputs, asked):
    """Return the blocks of what a request asks, float32 (B, E); None where it asks nothing.

    Args:
        inputs: Name → array, as `recommend_request.inputs_of`.
        asked: The version's map; None where its model reads no such text.

    Raises:
        RequestError: The vector is none of this model's, or the model reads none.
    """
    vectors = inputs.get(CONTEXT_NAME)
    if vectors is None:
        return None
    if asked is None:
        raise RequestError(f"this model reads no {CONTEXT_NAME}; train one with data.source.context_text")
    return asked.blocks(vectors)
