"""Alignment and initial ids."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lorefuse.config import DeepFMConfig
from lorefuse.models.build import build_ranker
from lorefuse.models.injection import INITIAL_STD, AlignmentLoss, distinct_items, initial_ids
from tests.helpers.training_rows import make_training_set


def test_alignment_by_hand() -> None:
    align = AlignmentLoss(2, 2, weight=0.5, temperature=0.5)
    with torch.no_grad():
        align.project.weight.copy_(torch.eye(2))
        align.project.bias.zero_()
    ids, told = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    # each cosine is 1 with its own and 0 with the other: −log(e² / (e² + 1))
    assert align(ids, told).item() == pytest.approx(0.5 * math.log(1 + math.exp(-2)))
    assert align(ids, told.flip(0)).item() == pytest.approx(0.5 * (2 + math.log(1 + math.exp(-2))))
    assert align(ids[:1], told[:1]).item() == 0


def test_alignment_pulls_ids_towards_their_knowledge() -> None:
    torch.manual_seed(0)
    align, ids, told = (
        AlignmentLoss(3, 4, weight=1.0, temperature=0.2),
        torch.nn.Parameter(torch.randn(9, 4)),
        torch.randn(9, 3),
    )
    optimizer = torch.optim.Adam([ids, *align.parameters()], lr=0.05)
    losses = []
    for _ in range(60):
        loss = align(ids, told)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_each_known_item_with_knowledge_stands_once() -> None:
    index = torch.tensor([3, 0, 3, 5, 4, 5, 0])
    has = torch.tensor([True, True, True, True, False, True, True])
    for seed in range(5):
        torch.manual_seed(seed)
        assert sorted(index[distinct_items(index, has)].tolist()) == [3, 5]


def test_initial_ids_keep_the_geometry_of_the_knowledge() -> None:
    rows = make_training_set()
    index, vectors = initial_ids(rows, ("item_text",), 4)
    known = np.flatnonzero((rows.item_fields[:, 0] > 0) & (np.abs(rows.knowledge["text"]).sum(1) > 0))
    assert index.tolist() == rows.item_fields[known, 0].tolist()
    assert vectors.std(correction=0).item() == pytest.approx(INITIAL_STD, rel=0.02)
    text = rows.knowledge["text"][known] - rows.knowledge["text"][known].mean(0)
    wanted, got = text @ text.T, (vectors @ vectors.T).numpy()
    assert np.corrcoef(wanted.ravel(), got.ravel())[0, 1] > 0.95


def test_a_ranker_starts_from_the_text() -> None:
    rows = make_training_set()
    ranker = build_ranker(DeepFMConfig(embedding_dim=4, hidden_dims=(4,), init="text"), rows.spec)
    before = ranker.item_embedding.table.detach().clone()
    ranker.prepare(rows)
    index, vectors = initial_ids(rows, ("item_text", "item_graph"), 4)
    torch.testing.assert_close(ranker.item_embedding.table[index, 1:], vectors)
    assert torch.equal(ranker.item_embedding.table[0], before[0])
