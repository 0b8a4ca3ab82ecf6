"""Graph embeddings: distances worked out by hand, one product for many candidates, and the papers' losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lorefuse.knowledge.graph_training import margin_loss, pairwise_loss, self_adversarial_loss
from lorefuse.knowledge.translation import RotatE, TransE, Translation, TransR

FAMILIES = [TransE, RotatE, TransR]


def tensor(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def make(family: type[Translation], num_entities: int = 7, num_relations: int = 3, dim: int = 4) -> Translation:
    torch.manual_seed(0)
    model = family(num_entities, num_relations, dim)
    if isinstance(model, TransR):
        torch.nn.init.normal_(model.projection)
    return model


def test_transe_adds_the_relation() -> None:
    model = make(TransE, dim=2)
    model.relation.data[1] = torch.tensor([1.0, 2.0])
    # (3, 1) + (1, 2) = (4, 3), which is 5 from the origin.
    distance = model.distance(tensor(3, 1), torch.tensor([1]), tensor(0, 0))
    assert distance.item() == pytest.approx(5)
    assert np.allclose(np.linalg.norm(model.table(), axis=1), 1, atol=1e-6)


def test_rotate_turns_each_complex_coordinate() -> None:
    model = make(RotatE, dim=4)
    model.phase.data[2] = torch.tensor([math.pi / 2, math.pi])
    # Real parts (1, 2), imaginary (0, 1): i · 1 = i and -1 · (2 + i) = -2 - i.
    moved = model.move(tensor(1, 2, 0, 1), torch.tensor([2]), forward=True).detach()
    torch.testing.assert_close(moved, tensor(0, -2, 1, -1))
    back = model.move(moved, torch.tensor([2]), forward=False)
    torch.testing.assert_close(back, tensor(1, 2, 0, 1))


def test_rotate_refuses_half_a_complex_number() -> None:
    with pytest.raises(ValueError, match="even dim"):
        RotatE(3, 1, 5)


def test_transr_compares_in_the_relations_space() -> None:
    model = TransR(3, 2, 2)
    torch.testing.assert_close(model.project(tensor(3, 4), torch.tensor([1])), tensor(3, 4))  # starts as TransE
    model.projection.data[1] = torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    model.relation.data[1] = torch.tensor([-1.0, 1.0])
    # W (3, 4) = (7, 8); W (1, 2) = (3, 4); (7 - 1 - 3, 8 + 1 - 4) = (3, 5).
    distance = model.distance(tensor(3, 4), torch.tensor([1]), tensor(1, 2))
    assert distance.item() == pytest.approx(math.sqrt(34))


@pytest.mark.parametrize("family", FAMILIES)
def test_distances_to_candidates_equal_those_one_by_one(family: type[Translation]) -> None:
    model = make(family)
    vectors, relation = torch.from_numpy(model.table()), torch.tensor([2, 0, 2, 1])
    known, candidates = vectors[[0, 3, 5, 6]], vectors[[1, 2, 4, 3, 0]]
    tails = model.distances(known, relation, candidates, forward=True)
    heads = model.distances(known, relation, candidates, forward=False)
    for column, candidate in enumerate(candidates):
        same = candidate.expand_as(known)
        torch.testing.assert_close(tails[:, column], model.distance(known, relation, same), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(heads[:, column], model.distance(same, relation, known), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_takes_part(family: type[Translation]) -> None:
    model = make(family)
    vectors = model.vectors(torch.arange(7))
    relation = torch.tensor([0, 1, 2])
    far = model.distances(vectors[:3], relation, vectors[3:5], forward=True).sum()
    (far + model.distance(vectors[:3], relation, vectors[4:7]).sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.to_dense().abs().sum() > 0, name


def test_margin_loss_by_hand() -> None:
    positive, negative = torch.tensor([1.0, 2.0]), torch.tensor([[1.5, 4.0], [2.0, 0.0]])
    counts = torch.tensor([[True, True], [True, False]])
    # [1 + 1 - 1.5]₊, [1 + 1 - 4]₊ and [1 + 2 - 2]₊: (0.5 + 0 + 1) / 3; the last is a fact and does not count.
    assert margin_loss(positive, negative, counts, 1.0).item() == pytest.approx(0.5)


def test_self_adversarial_loss_by_hand() -> None:
    positive, negative = torch.tensor([1.0]), torch.tensor([[2.0, 3.0, 0.0]])
    counts = torch.tensor([[True, True, False]])
    near, far = math.exp(-2) / (math.exp(-2) + math.exp(-3)), math.exp(-3) / (math.exp(-2) + math.exp(-3))

    def log_sigmoid(value: float) -> float:
        return -math.log1p(math.exp(-value))

    expected = -log_sigmoid(4 - 1) - near * log_sigmoid(2 - 4) - far * log_sigmoid(3 - 4)
    assert self_adversarial_loss(positive, negative, counts, 4.0, 1.0).item() == pytest.approx(expected, rel=1e-5)
    alone = self_adversarial_loss(positive, negative, torch.zeros_like(counts), 4.0, 1.0)
    assert alone.item() == pytest.approx(-log_sigmoid(3), rel=1e-5)


def test_the_adversarial_weights_take_no_gradient() -> None:
    negative = torch.tensor([[2.0, 3.0]], requires_grad=True)
    self_adversarial_loss(torch.tensor([1.0]), negative, torch.ones(1, 2, dtype=torch.bool), 4.0, 1.0).backward()
    weights = torch.softmax(torch.tensor([-2.0, -3.0]), 0)
    torch.testing.assert_close(negative.grad, -(weights * torch.sigmoid(torch.tensor([2.0, 1.0])))[None])


def test_pairwise_loss_by_hand() -> None:
    loss = pairwise_loss(torch.tensor([1.0]), torch.tensor([[2.0, 5.0]]), torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(1 - 4)), rel=1e-5)
