"""What an arm knows about the items, as the views read it.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``E`` width of vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.lists.near import Vectors
from lorefuse.lists.tables import as_means, knowledge_vectors, new_item_places


@dataclass(frozen=True)
class ItemKnowledge:
    """Texts and graph of the items.

    Attributes:
        vectors: All that is known, of unit length, (N, E); None: nothing.
        graph_vectors: The graph alone, likewise.
        places: Which known items stand in for each new one, see `tables.new_item_places`; None: none do.
        text: Texts as the trained recommenders read them, (N, E); None: there are none.
    """

    vectors: Vectors | None
    graph_vectors: Vectors | None
    places: csr_array | None
    text: Vectors | None

    @classmethod
    def of(
        cls,
        taken_UN: csr_array,
        blocks: Sequence[Vectors],
        config: CandidatesConfig,
        *,
        text: Vectors | None = None,
        graph: Vectors | None = None,
    ) -> Self:
        """Make the vectors of an arm.

        Args:
            taken_UN: What users took in train.
            blocks: All that is known about the items, (N, ·) each.
            config: How many known items stand in for a new one, and whether weights are learned for its scores.
            text: The block of texts.
            graph: The block of the graph.
        """
        known_N = np.bincount(taken_UN.indices, minlength=taken_UN.shape[1]) > 0
        vectors = knowledge_vectors(blocks, known_N)
        places = None
        if vectors is not None and config.new_item_neighbours and not known_N.all():
            places = new_item_places(vectors, known_N, config.new_item_neighbours)
            places = places if config.weights is None else as_means(places)
        return cls(vectors, None if graph is None else knowledge_vectors([graph], known_N), places, text)
