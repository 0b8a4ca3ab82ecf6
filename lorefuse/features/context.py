"""What the user asked before a row, a search or a line of a chat, as one more block of `Tensor.USER_INTEREST`.

It belongs to the request and not to the user: no feature store holds it. At training each row brings its own; at
serving the caller does. Where nothing was asked the block is zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.schema import CONTEXT_TEXT, TEXT, item_block
from lorefuse.features.aggregates import unit_rows
from lorefuse.training_set.spec import InterestFacet
from lorefuse.training_set.vectors import ItemVectors


def context_facets(vectors: ItemVectors) -> tuple[InterestFacet, ...]:
    """Return the facet of the text that rows were asked with; none where they have no such text."""
    if vectors.context is None:
        return ()
    dim = vectors.context.shape[1]
    return (InterestFacet(name=CONTEXT_TEXT, against=item_block(TEXT), dim=dim, as_field=True),)


def context_rows(vectors: ItemVectors) -> NDArray[np.float32]:
    """Return each interaction's block, (S, E): unit length, zeros where nothing was asked.

    Args:
        vectors: With contexts.
    """
    if vectors.context is None or vectors.context_row is None:
        return np.zeros((0, 0), dtype=np.float32)
    return unit_rows(vectors.context)[vectors.context_row]
