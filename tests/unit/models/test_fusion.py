"""Fusions against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from lorefuse.models.fusion import FUSIONS, make_fusion
from lorefuse.models.fusion.additive import NullSpaceFusion, WeightedFusion, masked_softmax, presence
from lorefuse.models.fusion.attention import AttentionFusion
from lorefuse.models.fusion.network import BilinearFusion, GatedFusion

ID = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
TEXT = torch.tensor([[2.0, 4.0, 9.0], [2.0, 4.0, 9.0], [0.0, 0.0, 0.0]])
KNOWN = torch.tensor([True, False, True])
"""A known item with text, an unseen one with text, a known one without text; the third dimension is not used."""


def test_nothing_to_fuse() -> None:
    assert make_fusion("none", (4,), 8) is None
    assert make_fusion("residual", (), 8) is None


@pytest.mark.parametrize("name", FUSIONS)
def test_an_item_without_knowledge_keeps_its_id(name: str) -> None:
    fuse = make_fusion(name, (2,), 2)
    assert fuse is not None
    fused = fuse(ID, [TEXT], KNOWN)
    assert fused.shape == (3, fuse.num_fields, 2)
    kept = slice(1, 2) if name == "null_space" else slice(None)  # the other half is the text's
    torch.testing.assert_close(fused[2, 0, kept], ID[2, kept])


@pytest.mark.parametrize("name", ["weighted", "attention", "gated"])
def test_an_unseen_item_is_its_knowledge_alone(name: str) -> None:
    fuse = make_fusion(name, (2,), 2)
    assert fuse is not None
    first = fuse(ID, [TEXT], KNOWN)[1]
    torch.testing.assert_close(first, fuse(ID * 5 if name != "attention" else ID, [TEXT], KNOWN)[1])
    projected = fuse.project if name == "gated" else fuse.projections[0]  # type: ignore[union-attr,index]
    torch.testing.assert_close(first[0], projected(TEXT[1, :2]))  # type: ignore[operator]


def test_weighted_by_hand() -> None:
    fuse = WeightedFusion((2,), 2)
    with torch.no_grad():
        fuse.projections[0].weight.copy_(torch.eye(2))  # type: ignore[union-attr,operator]
        fuse.logit.copy_(torch.tensor([0.0, 0.0]))
    assert fuse(ID, [TEXT], KNOWN)[0, 0].tolist() == [1.5, 3.0]
    assert fuse.diagnostics(ID, [TEXT], KNOWN) == {"weight_of_id": 0.5}
    assert WeightedFusion((2, 2), 2).diagnostics(ID, [TEXT], KNOWN)["weight_of_id"] == pytest.approx(0.9)


def test_attention_by_hand() -> None:
    fuse = AttentionFusion((2,), 2)
    with torch.no_grad():
        fuse.projections[0].weight.copy_(torch.eye(2))  # type: ignore[union-attr,operator]
        fuse.query.weight.copy_(torch.eye(2))
        fuse.key.weight.copy_(torch.eye(2))
    # q·k / √2 is 5/√2 for the id and 10/√2 for the text
    share = 1 / (1 + torch.exp(torch.tensor(-5 / 2**0.5)).item())
    assert fuse(ID, [TEXT], KNOWN)[0, 0].tolist() == pytest.approx([1 + share, 2 + 2 * share])
    with torch.no_grad():
        figures = fuse.diagnostics(ID, [TEXT], KNOWN)
    assert figures["weight_of_id"] == pytest.approx((1 - share + 1) / 2, abs=1e-6)


def test_gate_by_hand_and_its_collapse() -> None:
    fuse = GatedFusion((2,), 2)
    with torch.no_grad():
        fuse.project.weight.copy_(torch.eye(2))
        fuse.gate.weight.zero_()
        fuse.gate.bias.zero_()
    assert fuse(ID, [TEXT], KNOWN)[0, 0].tolist() == [1.5, 3.0]
    assert fuse.diagnostics(ID, [TEXT], KNOWN) == {"gate_mean": 0.5, "gate_std": 0.0, "gate_saturated": 0.0}
    with torch.no_grad():
        fuse.gate.bias.fill_(10.0)
    assert fuse.diagnostics(ID, [TEXT], KNOWN)["gate_saturated"] == 1.0


def test_bilinear_by_hand() -> None:
    fuse = BilinearFusion((2,), 2)
    with torch.no_grad():
        for layer in (fuse.project, fuse.left, fuse.right):
            layer.weight.copy_(torch.eye(2))
    assert fuse(ID, [TEXT], KNOWN)[0, 0].tolist() == [1 + 2 + 2, 2 + 4 + 8]


def test_null_space_keeps_knowledge_frozen_and_ids_out_of_it() -> None:
    fuse = NullSpaceFusion((3,), 2)
    fused = fuse(ID.requires_grad_(), [TEXT], KNOWN)
    assert fused[0, 0].tolist() == pytest.approx([0.2, 2.0])
    fused.sum().backward()
    assert ID.grad is not None
    assert ID.grad.tolist() == [[0.0, 1.0]] * 3
    ID.requires_grad_(False)


def test_standardised_over_items_that_have_text() -> None:
    fuse = make_fusion("residual", (2,), 2)
    assert fuse is not None
    vectors = torch.tensor([[1.0, 5.0], [3.0, 5.0], [0.0, 0.0], [99.0, 99.0]])
    fuse.fit([vectors], torch.tensor([2, 2, 5, 0]))  # the last item is in no train row
    scaled = fuse.scaled([torch.tensor([[3.0, 5.0], [0.0, 0.0]])])[0]
    assert scaled.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_weights_of_what_is_missing_go_to_the_rest() -> None:
    present = presence([TEXT, torch.zeros(3, 2)], torch.tensor([True, False, False]))
    assert present.tolist() == [[True, True, False], [False, True, False], [True, False, False]]
    assert masked_softmax(torch.zeros(3, 3), present).tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
