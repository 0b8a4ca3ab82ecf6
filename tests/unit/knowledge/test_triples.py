"""Numbered triples: membership against a naive set, and a held-out part that neither leaks nor isolates."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.knowledge.triples import IndexedTriples, hold_out

NAMES = st.sampled_from("abcdefgh")
TRIPLES = st.lists(st.tuples(NAMES, st.sampled_from(["likes", "knows", "owns"]), NAMES), min_size=1, max_size=40)


def frame(triples: list[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(triples, columns=["head", "relation", "tail"])


def test_names_become_places_in_sorted_order() -> None:
    graph = IndexedTriples.of(frame([("b", "likes", "c"), ("b", "knows", "a"), ("b", "likes", "c")]))
    assert graph.entities.tolist() == ["a", "b", "c"]
    assert (graph.num_triples, graph.num_entities, graph.num_relations) == (2, 3, 2)
    assert list(zip(graph.head, graph.relation, graph.tail, strict=True)) == [(1, 0, 0), (1, 1, 2)]
    assert graph.rows_of(pd.Series(["c", "nobody", "a"])).tolist() == [2, -1, 0]


def test_each_triple_is_seen_from_both_ends() -> None:
    node, relation, neighbour, is_head = IndexedTriples.of(frame([("a", "likes", "b")])).edges()
    assert node.tolist() == [0, 1]
    assert neighbour.tolist() == [1, 0]
    assert relation.tolist() == [0, 0]
    assert is_head.tolist() == [True, False]


@given(TRIPLES)
def test_membership_equals_that_of_a_set(triples: list[tuple[str, str, str]]) -> None:
    graph = IndexedTriples.of(frame(triples))
    facts = set(zip(graph.head.tolist(), graph.relation.tolist(), graph.tail.tolist(), strict=True))
    assert len(facts) == len(set(triples))
    head, relation, tail = np.meshgrid(
        np.arange(graph.num_entities), np.arange(graph.num_relations), np.arange(graph.num_entities), indexing="ij"
    )
    found = graph.contains(head, relation, tail)
    for place in np.ndindex(found.shape):
        assert found[place] == ((head[place], relation[place], tail[place]) in facts)


@given(TRIPLES)
def test_the_order_of_the_rows_does_not_matter(triples: list[tuple[str, str, str]]) -> None:
    one, other = IndexedTriples.of(frame(triples)), IndexedTriples.of(frame(triples[::-1]))
    assert one.entities.equals(other.entities)
    for name in ("head", "relation", "tail"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(TRIPLES, st.integers(0, 3))
def test_what_is_held_out_leaves_no_inverse_and_no_lonely_entity(
    triples: list[tuple[str, str, str]], seed: int
) -> None:
    graph = IndexedTriples.of(frame(triples))
    held_out = hold_out(graph, 0.3, seed)
    pair = [frozenset(ends) for ends in zip(graph.head.tolist(), graph.tail.tolist(), strict=True)]
    hidden = {ends for ends, out in zip(pair, held_out, strict=True) if out}
    assert not hidden & {ends for ends, out in zip(pair, held_out, strict=True) if not out}
    left = graph.part(~held_out)
    assert set(left.head) | set(left.tail) == set(range(graph.num_entities)), "an entity lost its last triple"
    np.testing.assert_array_equal(held_out, hold_out(graph, 0.3, seed))


def test_about_the_asked_share_is_held_out() -> None:
    rng = np.random.default_rng(0)
    graph = IndexedTriples.of(frame([(str(rng.integers(50)), "r", str(rng.integers(50))) for _ in range(800)]))
    assert 0.02 <= hold_out(graph, 0.02, 0).mean() < 0.03
    assert not hold_out(graph, 0.0, 0).any()
