"""Graph embeddings in which a relation moves its head onto its tail: TransE, RotatE and TransR.

Each gives the distance between where a relation leads and an entity. All are Euclidean, so that the distances to
many candidates are one matrix product. Suffixes: ``B`` triples, ``K`` candidates, ``D`` entity dim, ``S`` relation dim.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-9


class Translation(nn.Module):
    """Entities and relations of a graph; a subclass says how a relation moves an entity.

    Args:
        num_entities: Rows of the entity table.
        num_relations: Relations.
        dim: Width of an entity's vector.
    """

    def __init__(self, num_entities: int, num_relations: int, dim: int) -> None:
        super().__init__()
        self.entity = nn.Embedding(num_entities, dim, sparse=True)
        self.num_relations, self.dim = num_relations, dim

    def vectors(self, rows: Tensor) -> Tensor:
        """Return entity vectors as the distances use them, shape (*rows, D)."""
        found: Tensor = self.entity(rows)
        return found

    def table(self) -> NDArray[np.float32]:
        """Return the vectors of all entities, (num_entities, D)."""
        with torch.no_grad():
            every: NDArray[np.float32] = self.vectors(torch.arange(self.entity.num_embeddings)).numpy()
            return every

    def move(self, from_BD: Tensor, relation_B: Tensor, *, forward: bool) -> Tensor:
        """Return where a relation leads from heads (forward), or from tails back, shape (B, D)."""
        raise TypeError(f"{type(self).__name__} does not say how a relation moves an entity")

    def distance(self, head_BD: Tensor, relation_B: Tensor, tail_BD: Tensor) -> Tensor:
        """Return the distance of each triple, shape (B,)."""
        gap_BD = self.move(head_BD, relation_B, forward=True) - tail_BD
        return (gap_BD.square().sum(1) + EPSILON).sqrt()

    def distances(self, from_BD: Tensor, relation_B: Tensor, candidates_KD: Tensor, *, forward: bool) -> Tensor:
        """Return the distance of each triple completed by each candidate, as tail (forward) or as head, (B, K)."""
        return _pairwise(self.move(from_BD, relation_B, forward=forward), candidates_KD)


class TransE(Translation):
    """``‖h + r − t‖₂`` with entities of unit length.

    The length is kept by construction, where the paper scales the vectors anew before each batch.

    Source: Bordes et al., Translating Embeddings for Modeling Multi-relational Data, NIPS 2013, algorithm 1.
    """

    def __init__(self, num_entities: int, num_relations: int, dim: int) -> None:
        super().__init__(num_entities, num_relations, dim)
        bound = 6 / math.sqrt(dim)
        nn.init.uniform_(self.entity.weight, -bound, bound)
        self.relation = nn.Parameter(functional.normalize(torch.empty(num_relations, dim).uniform_(-bound, bound)))

    def vectors(self, rows: Tensor) -> Tensor:
        """Return unit vectors."""
        return functional.normalize(self.entity(rows), dim=-1)

    def move(self, from_BD: Tensor, relation_B: Tensor, *, forward: bool) -> Tensor:
        """Add the relation to heads, subtract it from tails."""
        relation_BD = self.relation[relation_B]
        return from_BD + relation_BD if forward else from_BD - relation_BD


class RotatE(Translation):
    """``‖h ∘ r − t‖₂`` over complex numbers, each relation a rotation of each coordinate.

    A vector holds D / 2 real parts, then as many imaginary parts, so that a dot product of two vectors is the real part
    of the complex one. The norm is the Euclidean one; the authors' code sums the moduli.

    Args:
        num_entities: Rows of the entity table.
        num_relations: Relations.
        dim: Even.

    Raises:
        ValueError: `dim` is odd.

    Source: RotatE, arXiv:1902.10197, eqs. 2-3.
    """

    def __init__(self, num_entities: int, num_relations: int, dim: int) -> None:
        if dim % 2:
            raise ValueError(f"RotatE needs an even dim, a complex number being two; got {dim}")
        super().__init__(num_entities, num_relations, dim)
        nn.init.uniform_(self.entity.weight, -0.3, 0.3)
        self.phase = nn.Parameter(torch.empty(num_relations, dim // 2).uniform_(-math.pi, math.pi))

    def move(self, from_BD: Tensor, relation_B: Tensor, *, forward: bool) -> Tensor:
        """Rotate heads by the relation's phases, tails back by them."""
        phase = self.phase[relation_B] if forward else -self.phase[relation_B]
        real, imaginary = from_BD.chunk(2, dim=1)
        cos, sin = phase.cos(), phase.sin()
        return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=1)


class TransR(Translation):
    """``‖W_r h + r − W_r t‖₂``: each relation compares its entities in a space of its own; starts as TransE.

    Args:
        num_entities: Rows of the entity table.
        num_relations: Relations.
        dim: D; the relations' spaces have as many dimensions.

    Source: TransR as KGAT uses it, arXiv:1905.07854, eq. 1.
    """

    def __init__(self, num_entities: int, num_relations: int, dim: int) -> None:
        super().__init__(num_entities, num_relations, dim)
        nn.init.xavier_uniform_(self.entity.weight)
        self.relation = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_relations, dim)))
        self.projection = nn.Parameter(torch.eye(dim).repeat(num_relations, 1, 1))

    def project(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Return ``W_r e``, shape (B, S): one matrix product for each relation of the batch."""
        return _by_relation(entity_BD, relation_B, self.projection.transpose(1, 2))

    def distance(self, head_BD: Tensor, relation_B: Tensor, tail_BD: Tensor) -> Tensor:
        """Return the distance of each triple in its relation's space, shape (B,)."""
        gap_BS = self.project(head_BD - tail_BD, relation_B) + self.relation[relation_B]
        return (gap_BS.square().sum(1) + EPSILON).sqrt()

    def distances(self, from_BD: Tensor, relation_B: Tensor, candidates_KD: Tensor, *, forward: bool) -> Tensor:
        """Return ``‖q − W_r c‖`` as ``‖q‖² − 2 (W_rᵀ q) · c + ‖W_r c‖²``, which projects no candidate per triple."""
        sign = 1 if forward else -1
        query_BS = self.project(from_BD, relation_B) + sign * self.relation[relation_B]
        back_BD = _by_relation(query_BS, relation_B, self.projection)
        present, place_B = torch.unique(relation_B, return_inverse=True)
        lengths_RK = torch.stack([(candidates_KD @ self.projection[one].T).square().sum(1) for one in present])
        squared_BK = query_BS.square().sum(1, keepdim=True) - 2 * back_BD @ candidates_KD.T + lengths_RK[place_B]
        return (squared_BK.clamp_min(0) + EPSILON).sqrt()


def _pairwise(query_BD: Tensor, candidates_KD: Tensor) -> Tensor:
    squared_BK = query_BD.square().sum(1, keepdim=True) - 2 * query_BD @ candidates_KD.T + candidates_KD.square().sum(1)
    return (squared_BK.clamp_min(0) + EPSILON).sqrt()


def _by_relation(rows_BD: Tensor, relation_B: Tensor, matrices_RDS: Tensor) -> Tensor:
    """Multiply each row by its relation's matrix: rows grouped, a product per group, and back in order."""
    order = torch.argsort(relation_B, stable=True)
    sizes = torch.bincount(relation_B, minlength=len(matrices_RDS)).tolist()
    groups = torch.split(rows_BD[order], sizes)
    products = [group @ matrix for group, matrix in zip(groups, matrices_RDS, strict=True) if len(group)]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return torch.cat(products)[back]
