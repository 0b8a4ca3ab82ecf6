"""Target attention against its definition, and against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from lorefuse.config import DINConfig
from lorefuse.core.errors import UsageError
from lorefuse.models.build import build_ranker
from lorefuse.models.din import TargetAttention
from tests.helpers.training_rows import make_training_set


def test_equal_to_the_mlp_over_all_four() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(3, 5)
    past, candidate, present = torch.randn(4, 6, 3), torch.randn(4, 3), (torch.rand(4, 6) > 0.3).float()
    asked = candidate.unsqueeze(1).expand_as(past)
    pair = torch.cat([past, asked, past - asked, past * asked], dim=2)
    weight = attention.last(torch.sigmoid(attention.first(pair))).squeeze(2) * present
    wanted = (weight.unsqueeze(2) * past).sum(1)
    torch.testing.assert_close(attention(past, candidate, present), wanted)


def test_by_hand() -> None:
    attention = TargetAttention(1, 1)
    with torch.no_grad():
        attention.first.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 1.0]]))
        attention.first.bias.zero_()
        attention.last.weight.fill_(2.0)
        attention.last.bias.zero_()
    out = attention(torch.tensor([[[3.0], [5.0]]]), torch.tensor([[0.0]]), torch.tensor([[1.0, 0.0]]))
    assert out.item() == pytest.approx(2 * 0.5 * 3.0)  # σ(3 · 0) = ½; the second is padding


def test_a_history_is_needed() -> None:
    with pytest.raises(UsageError, match="history"):
        build_ranker(DINConfig(), make_training_set().spec)
