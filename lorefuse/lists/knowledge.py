"""What an arm knows about the items, as the views read it.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``E`` width of vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from lorefuse.config.candidates import CONTENT, CandidatesConfig
from lorefuse.core.schema import TEXT
from lorefuse.lists.near import Vectors
from lorefuse.lists.tables import as_means, knowledge_vectors, new_item_places


@dataclass(frozen=True)
class ItemKnowledge:
    """Knowledge blocks of the items, together and each by itself.

    Attributes:
        vectors: All that is known, of unit length, (N, E); None: nothing.
        alone: Single blocks that a view asks for, by name, likewise.
        places: Which known items stand in for each new one, see `tables.new_item_places`; None: none do.
        text: Texts as the trained recommenders read them, (N, E); None: there are none.
    """

    vectors: Vectors | None
    alone: Mapping[str, Vectors]
    places: csr_array | None
    text: Vectors | None

    @classmethod
    def of(
        cls,
        taken_UN: csr_array,
        blocks: Mapping[str, Vectors],
        config: CandidatesConfig,
    ) -> Self:
        """Make the vectors of an arm.

        Args:
            taken_UN: What users took in train.
            blocks: All that is known about the items, (N, ·) each; ``text``, where there is one, as trained
                recommenders read it.
            config: How many known items stand in for a new one, whether weights are learned for its scores, and which
                views ask for a block by itself.
        """
        known_N = np.bincount(taken_UN.indices, minlength=taken_UN.shape[1]) > 0
        vectors = knowledge_vectors(list(blocks.values()), known_N)
        places = None
        if vectors is not None and config.new_item_neighbours and not known_N.all():
            places = new_item_places(vectors, known_N, config.new_item_neighbours)
            places = places if config.weights is None else as_means(places)
        asked = {name for name in blocks if name + CONTENT in config.views}
        alone = {name: made for name in asked if (made := knowledge_vectors([blocks[name]], known_N)) is not None}
        return cls(vectors, alone, places, blocks.get(TEXT))

    @property
    def contents(self) -> dict[str, Vectors]:
        """Vectors of each view of contents, by the view's name."""
        found = {} if self.vectors is None else {"content": self.vectors}
        return found | {name + CONTENT: vectors for name, vectors in self.alone.items()}
