"""Triples as integers: entities and relations numbered, edges in both directions, a held-out part to be judged on.

Suffixes: ``M`` triples.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.core.schema import HEAD, RELATION, TAIL

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class IndexedTriples:
    """A graph without repeated triples.

    Attributes:
        entities: Names of all entities, sorted; an entity's number is its place here.
        num_relations: Relations, numbered in the order of their names.
        head: int64 (M,).
        relation: int64 (M,).
        tail: int64 (M,).
    """

    entities: pd.Index[str]
    num_relations: int
    head: Ints
    relation: Ints
    tail: Ints

    @classmethod
    def of(cls, triples: pd.DataFrame) -> IndexedTriples:
        """Number a frame of head, relation and tail names; the order of its rows does not matter."""
        triples = triples[[HEAD, RELATION, TAIL]].drop_duplicates().sort_values([HEAD, RELATION, TAIL])
        entities = pd.Index(np.unique(np.concatenate([triples[HEAD], triples[TAIL]]).astype(str)))
        relations = pd.Index(np.unique(triples[RELATION].astype(str)))
        return cls(
            entities,
            len(relations),
            entities.get_indexer(pd.Index(triples[HEAD])).astype(np.int64),
            relations.get_indexer(pd.Index(triples[RELATION])).astype(np.int64),
            entities.get_indexer(pd.Index(triples[TAIL])).astype(np.int64),
        )

    @property
    def num_entities(self) -> int:
        """Entities that stand in a triple."""
        return len(self.entities)

    @property
    def num_triples(self) -> int:
        """Different triples."""
        return len(self.head)

    def rows_of(self, names: pd.Series) -> Ints:
        """Return the numbers of entities by name; -1 for one of which no triple speaks."""
        return self.entities.get_indexer(pd.Index(names)).astype(np.int64)

    def contains(self, head: Ints, relation: Ints, tail: Ints) -> NDArray[np.bool_]:
        """Tell which triples the graph holds; the arguments broadcast."""
        keys = np.asarray((head * self.num_relations + relation) * self.num_entities + tail)
        # Most asked-for triples are no facts: a small table of hashes says so without a search.
        found: NDArray[np.bool_] = self._hashes[self._hash(keys)]
        maybe = keys[found]
        place = np.searchsorted(self._keys, maybe)
        found[found] = self._keys[np.minimum(place, len(self._keys) - 1)] == maybe
        return found

    @functools.cached_property
    def _keys(self) -> Ints:
        return np.sort((self.head * self.num_relations + self.relation) * self.num_entities + self.tail)

    @functools.cached_property
    def _hashes(self) -> NDArray[np.bool_]:
        table = np.zeros(1 << self._hash_bits, dtype=bool)
        table[self._hash(self._keys)] = True
        return table

    @property
    def _hash_bits(self) -> int:
        return max(8, (16 * self.num_triples).bit_length())

    def _hash(self, keys: Ints) -> NDArray[np.uint64]:
        """Multiplicative hashing (Knuth, TAOCP 3, 6.4): the high bits of a product with 2⁶⁴ / φ."""
        product = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        hashes: NDArray[np.uint64] = product >> np.uint64(64 - self._hash_bits)
        return hashes

    def part(self, rows: NDArray[np.bool_] | Ints) -> IndexedTriples:
        """Return some of the triples, under the same numbers."""
        return IndexedTriples(self.entities, self.num_relations, self.head[rows], self.relation[rows], self.tail[rows])

    def edges(self) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
        """Return every triple from both of its ends: node, relation, neighbour, and whether the node is the head."""
        return (
            np.concatenate([self.head, self.tail]),
            np.concatenate([self.relation, self.relation]),
            np.concatenate([self.tail, self.head]),
            np.arange(2 * self.num_triples) < self.num_triples,
        )


def hold_out(triples: IndexedTriples, share: float, seed: int) -> NDArray[np.bool_]:
    """Choose triples to judge by, (M,).

    All triples between two nodes go together, in whatever direction: many graphs state a fact twice, as a relation and
    as its inverse, and a fact whose inverse was learned proves nothing (Toutanova & Chen, CVSC 2015). No node loses its
    last neighbour.

    Args:
        triples: The graph.
        share: Of the triples.
        seed: Of the choice.
    """
    low, high = np.minimum(triples.head, triples.tail), np.maximum(triples.head, triples.tail)
    pairs, pair_of = np.unique(low * triples.num_entities + high, return_inverse=True)
    ends = np.stack([pairs // triples.num_entities, pairs % triples.num_entities], axis=1)
    num_neighbours = np.bincount(ends.ravel(), minlength=triples.num_entities)
    size, left = np.bincount(pair_of), share * triples.num_triples
    chosen = np.zeros(len(pairs), dtype=bool)
    for pair in np.random.default_rng(seed).permutation(len(pairs)):
        if left <= 0:
            break
        # An edge from a node to itself counts twice in its node's number and is nobody's neighbour: it stays.
        if ends[pair, 0] != ends[pair, 1] and (num_neighbours[ends[pair]] > 1).all():
            num_neighbours[ends[pair]] -= 1
            chosen[pair], left = True, left - size[pair]
    held_out: NDArray[np.bool_] = chosen[pair_of]
    return held_out
