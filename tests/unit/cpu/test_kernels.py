"""Hand-written gradients give the numbers of their plain twins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lorefuse.config import DCNV2Config, DeepFMConfig
from lorefuse.core.schema import Split
from lorefuse.cpu.kernels import crosses, lookup, relu_dropout, split_first, sum_and_pairs
from lorefuse.models.build import build_ranker
from lorefuse.models.dcn_v2 import CrossLayer
from lorefuse.models.ranker import as_inputs
from tests.helpers.training_rows import make_training_set


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def gradient(tensor: Tensor, *outputs: Tensor) -> Tensor:
    loss = sum((output * (1 + torch.arange(output.numel()).view(output.shape))).sum() for output in outputs)
    (grad,) = torch.autograd.grad(loss, tensor)
    return grad


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 2)])
def test_lookup_is_an_embedding(shape: tuple[int, ...]) -> None:
    table = normal(6, 3).requires_grad_()
    index = torch.arange(torch.Size(shape).numel()).view(shape) % 4  # some rows often, some never
    plain = nn.functional.embedding(index, table)
    assert torch.equal(lookup(index, table), plain)
    torch.testing.assert_close(gradient(table, lookup(index, table)), gradient(table, plain))


def test_split_first_is_two_slices() -> None:
    found = normal(4, 3, 5).requires_grad_()
    first, vectors = split_first(found)
    assert vectors.is_contiguous()
    torch.testing.assert_close((first, vectors), (found[..., 0].sum(1), found[..., 1:]))
    plain = gradient(found, found[..., 0].sum(1), found[..., 1:])
    torch.testing.assert_close(gradient(found, first, vectors), plain)


def test_sum_and_pairs_against_a_loop_over_pairs() -> None:
    vectors = normal(4, 3, 5).requires_grad_()
    total, pairs = sum_and_pairs(vectors)
    by_hand = sum((vectors[:, a] * vectors[:, b]).sum(1) for a in range(3) for b in range(a))
    torch.testing.assert_close((total, pairs), (vectors.sum(1), by_hand))
    torch.testing.assert_close(gradient(vectors, total, pairs), gradient(vectors, vectors.sum(1), by_hand))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_crosses_are_cross_layers(depth: int) -> None:
    layers = [CrossLayer(3) for _ in range(depth)]
    first = normal(5, 3).requires_grad_()
    torch.testing.assert_close(crosses(first, layers), plain_of(first, layers))
    for tensor in (first, *(parameter for layer in layers for parameter in layer.parameters())):
        torch.testing.assert_close(gradient(tensor, crosses(first, layers)), gradient(tensor, plain_of(first, layers)))


def plain_of(first: Tensor, layers: list[CrossLayer]) -> Tensor:
    last = first
    for layer in layers:
        last = layer(first, last)
    return last


def test_relu_dropout_keeps_the_mean_and_the_gradient_of_what_it_keeps() -> None:
    values = normal(301, 7).requires_grad_()
    torch.manual_seed(0)
    kept = relu_dropout(values, 0.25)
    assert ((kept == 0) | torch.isclose(kept, values / 0.75)).all()
    of_positive = kept[values > 0]
    assert 0.20 < float((of_positive == 0).float().mean()) < 0.30
    (grad,) = torch.autograd.grad(kept.sum(), values)
    torch.testing.assert_close(grad, (kept > 0) / 0.75)


def test_relu_dropout_follows_the_seed() -> None:
    values = normal(64)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(relu_dropout(values, 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("family", [DeepFMConfig, DCNV2Config])
def test_training_and_scoring_agree(family: type[DeepFMConfig | DCNV2Config]) -> None:
    training_set = make_training_set()
    config = family(embedding_dim=4, hidden_dims=(8,), dropout=0.0, id_dropout=0.0)
    ranker = build_ranker(config, training_set.spec)
    ranker.prepare(training_set)
    inputs = as_inputs(training_set.inputs(training_set.rows_of(Split.VALIDATION)))
    torch.testing.assert_close(ranker.train()(**inputs), ranker.eval()(**inputs), rtol=0, atol=1e-6)
