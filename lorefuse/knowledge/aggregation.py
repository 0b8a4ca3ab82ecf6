"""Attention over an entity's neighbours, after KGAT: what is around it, weighed by how well relations fit.

KGAT alternates between learning the graph and learning to recommend, and trains its aggregators on the latter. Here the
graph comes first and stays: attention is that of the graph phase (TransR), frozen, and aggregators have no weights of
their own, as LightGCN found that feature transforms bring nothing on frozen inputs. So vectors may be made before any
model, be shared by all of them, and hold nothing of the interactions. Suffixes: ``N`` entities, ``M`` edges, ``D`` dim.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.knowledge.translation import TransR
from lorefuse.knowledge.triples import IndexedTriples

_EDGES_AT_A_TIME = 1 << 17
LEAK = 0.01
Floats = NDArray[np.float32]


def aggregated_vectors(model: TransR, triples: IndexedTriples, num_hops: int, aggregator: str) -> Floats:
    """Return each entity's own vector and one layer per hop, side by side, each of unit length: (N, (1 + hops) · D).

    Args:
        model: Trained on these triples.
        triples: Read in both directions, as KGAT does.
        num_hops: Layers; the second sees neighbours' neighbours.
        aggregator: ``bi_interaction`` or ``sum``, see `aggregate`.

    Source: KGAT, arXiv:1905.07854, eqs. 3-5, 8-11.
    """
    own_ND = model.table()
    node, relation, neighbour, is_head = triples.edges()
    scores = edge_scores(model, own_ND, node, relation, neighbour, is_head)
    order = np.argsort(node, kind="stable")
    node, neighbour = node[order], neighbour[order]
    attention_M = softmax_by_node(scores[order], node)
    layers = [own_ND]
    for _ in range(num_hops):
        around_ND = weighted_sums(attention_M, node, neighbour, layers[-1])
        layers.append(aggregate(layers[-1], around_ND, aggregator))
    return np.concatenate([_unit(layer) for layer in layers], axis=1)


@torch.no_grad()
def edge_scores(
    model: TransR,
    own_ND: Floats,
    node: NDArray[np.int64],
    relation: NDArray[np.int64],
    neighbour: NDArray[np.int64],
    is_head: NDArray[np.bool_],
) -> Floats:
    """Return ``(W_r e_t)ᵀ tanh(W_r e_h + e_r)`` per edge, (M,); an inverse edge has the relation's vector negated.

    Source: KGAT, arXiv:1905.07854, eq. 4.
    """
    scores = np.empty(len(node), dtype=np.float32)
    own = torch.from_numpy(own_ND)
    for start in range(0, len(node), _EDGES_AT_A_TIME):
        part = slice(start, start + _EDGES_AT_A_TIME)
        relation_B = torch.from_numpy(relation[part])
        sign_B1 = torch.from_numpy(np.where(is_head[part], 1, -1).astype(np.float32))[:, None]
        here = model.project(own[torch.from_numpy(node[part])], relation_B)
        there = model.project(own[torch.from_numpy(neighbour[part])], relation_B)
        scores[part] = (there * torch.tanh(here + sign_B1 * model.relation[relation_B])).sum(1).numpy()
    return scores


def softmax_by_node(scores_M: Floats, node_M: NDArray[np.int64]) -> Floats:
    """Normalise scores over the edges of each node (sorted by node), so that they sum to one: (M,).

    A hub's thousand edges share one; the largest score is taken off first, so that none overflows.

    Source: KGAT, arXiv:1905.07854, eq. 5.
    """
    if not len(node_M):
        return scores_M
    starts = np.flatnonzero(np.r_[True, node_M[1:] != node_M[:-1]])
    sizes = np.diff(np.r_[starts, len(node_M)])
    powers = np.exp((scores_M - np.repeat(np.maximum.reduceat(scores_M, starts), sizes)).astype(np.float64))
    shares: Floats = (powers / np.repeat(np.add.reduceat(powers, starts), sizes)).astype(np.float32)
    return shares


def weighted_sums(
    attention_M: Floats, node_M: NDArray[np.int64], neighbour_M: NDArray[np.int64], vectors_ND: Floats
) -> Floats:
    """Return ``Σ attention · neighbour's vector`` per node, (N, D), zeros where a node has none.

    A sparse matrix product: no edge ever holds a copy of a vector, whatever a hub's degree.

    Source: KGAT, arXiv:1905.07854, eq. 3.
    """
    from scipy.sparse import csr_matrix

    shape = (len(vectors_ND), len(vectors_ND))
    sums: Floats = np.asarray(csr_matrix((attention_M, (node_M, neighbour_M)), shape=shape) @ vectors_ND)
    return sums.astype(np.float32)


def aggregate(own_ND: Floats, around_ND: Floats, aggregator: str) -> Floats:
    """Join entities with their neighbourhoods, (N, D).

    * ``sum``: ``LeakyReLU(e + e_N)``, eq. 6 without its matrix;
    * ``bi_interaction``: ``LeakyReLU(e + e_N) + LeakyReLU(e ∘ e_N)``, eq. 8 without its matrices.

    Source: KGAT, arXiv:1905.07854, eqs. 6 and 8.
    """
    joined = _leaky(own_ND + around_ND)
    return joined if aggregator == "sum" else joined + _leaky(own_ND * around_ND)


def _leaky(values: Floats) -> Floats:
    return np.where(values > 0, values, LEAK * values).astype(np.float32)


def _unit(vectors_ND: Floats) -> Floats:
    lengths = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit: Floats = np.divide(vectors_ND, lengths, out=np.zeros_like(vectors_ND), where=lengths > 0)
    return unit
