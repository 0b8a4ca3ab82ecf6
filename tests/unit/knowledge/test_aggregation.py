"""KGAT-style aggregation: attention, hubs and lonely entities against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.knowledge.aggregation import (
    aggregate,
    aggregated_vectors,
    edge_scores,
    softmax_by_node,
    weighted_sums,
)
from lorefuse.knowledge.translation import TransR
from lorefuse.knowledge.triples import IndexedTriples


def test_attention_is_the_papers_product() -> None:
    model = TransR(2, 1, 2)
    model.projection.data[0] = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    model.relation.data[0] = torch.tensor([0.5, -0.5])
    own = np.array([[0.1, 0.2], [0.3, -0.4]], dtype=np.float32)
    here, there, edge = np.array([0, 1]), np.array([1, 0]), np.array([0, 0])
    scores = edge_scores(model, own, here, edge, there, np.array([True, False]))
    # W e_0 = (.2, .2), W e_1 = (.6, -.4); from the head + e_r, from the tail - e_r.
    assert scores[0] == pytest.approx(0.6 * math.tanh(0.7) - 0.4 * math.tanh(-0.3), rel=1e-5)
    assert scores[1] == pytest.approx(0.2 * math.tanh(0.1) + 0.2 * math.tanh(0.1), rel=1e-5)


def test_softmax_sums_to_one_per_node_and_does_not_overflow() -> None:
    shares = softmax_by_node(np.array([0, math.log(3), 1e4, 1e4], dtype=np.float32), np.array([0, 0, 2, 2]))
    np.testing.assert_allclose(shares, [0.25, 0.75, 0.5, 0.5], rtol=1e-6)
    assert len(softmax_by_node(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64))) == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-30, 30, width=32)), min_size=1, max_size=30))
def test_softmax_equals_the_naive_one(edges: list[tuple[int, float]]) -> None:
    edges.sort(key=lambda edge: edge[0])
    node, score = np.array([edge[0] for edge in edges]), np.array([edge[1] for edge in edges], dtype=np.float32)
    shares = softmax_by_node(score, node)
    for one in np.unique(node):
        powers = np.exp(score[node == one].astype(np.float64) - score[node == one].max())
        np.testing.assert_allclose(shares[node == one], powers / powers.sum(), rtol=1e-5, atol=1e-7)


def test_neighbourhood_sums_and_aggregators_by_hand() -> None:
    vectors = np.array([[1, -2], [3, 1], [0, 4]], dtype=np.float32)
    around = weighted_sums(np.array([0.25, 0.75], dtype=np.float32), np.array([0, 0]), np.array([1, 2]), vectors)
    np.testing.assert_allclose(around, [[0.75, 3.25], [0, 0], [0, 0]])  # who has no neighbour gets nothing
    np.testing.assert_allclose(aggregate(vectors, around, "sum")[0], [1.75, 1.25])
    # Sum (1.75, 1.25), product (.75, -6.5) whose negative part leaks by 0.01.
    np.testing.assert_allclose(aggregate(vectors, around, "bi_interaction")[0], [2.5, 1.25 - 0.065], rtol=1e-6)


@pytest.mark.parametrize("num_hops", [1, 2])
def test_layers_stand_side_by_side_and_a_second_hop_sees_further(num_hops: int) -> None:
    chain = pd.DataFrame([("a", "r", "b"), ("b", "r", "c")], columns=["head", "relation", "tail"])
    graph, model = IndexedTriples.of(chain), TransR(3, 1, 4)
    before = aggregated_vectors(model, graph, num_hops, "sum")
    assert before.shape == (3, 4 * (1 + num_hops))
    np.testing.assert_allclose(np.linalg.norm(before.reshape(3, 1 + num_hops, 4), axis=2), 1, rtol=1e-5)
    model.entity.weight.data[2] *= -1
    moved = np.abs(aggregated_vectors(model, graph, num_hops, "sum") - before)[0].reshape(-1, 4).max(1) > 1e-6
    assert moved.tolist() == [False, False, True][: 1 + num_hops]


def test_a_hub_costs_no_copy_per_edge_and_stays_finite() -> None:
    spokes = pd.DataFrame([(f"n{n:05d}", "in", "hub") for n in range(5000)], columns=["head", "relation", "tail"])
    graph, model = IndexedTriples.of(spokes), TransR(5001, 1, 8)
    model.entity.weight.data *= 50
    vectors = aggregated_vectors(model, graph, 2, "bi_interaction")
    assert np.isfinite(vectors).all()
    assert vectors.shape == (5001, 24)
