"""What the user asked just now: the encoder's vector of a text → the block of the user tensors that the model reads."""

import os

import numpy as np
import triton_python_backend_utils as pb_utils
from wishes import RequestError

CONTEXT_FACET, CONTEXT_FILE = "context_text", "context.npz"


class Asked:
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

    def vectors(self, request, num_users):
        """Return B blocks of unit length, float32 (B, E), zeros where a row is zeros; None where nothing was asked."""
        tensor = pb_utils.get_input_tensor_by_name(request, "context_vector")
        if tensor is None:
            return None
        given = tensor.as_numpy().reshape(num_users, -1)
        if given.shape[1] not in self.widths:
            raise RequestError(f"context_vector has {given.shape[1]} dimensions; this model reads {self.widths[0]}")
        if not np.isfinite(given).all():
            raise RequestError("context_vector holds a number that is not finite")
        given = given[:, : self.widths[0]]
        reduced = (given - self.mean) @ self.components / self.scale * given.any(1, keepdims=True)
        return (reduced / np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-12)).astype(np.float32)
