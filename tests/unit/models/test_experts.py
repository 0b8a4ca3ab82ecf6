"""Trunks of several tasks, and the funnel's product."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.config import MultiTaskConfig
from lorefuse.core.errors import ConfigError
from lorefuse.models.build import build_ranker
from lorefuse.models.experts import TRUNKS, MMoE, mixed
from lorefuse.models.multi_task import MultiTask, product_logit
from lorefuse.models.ranker import as_inputs
from tests.helpers.training_rows import make_training_set


@pytest.mark.parametrize("name", TRUNKS)
def test_one_vector_per_task(name: str) -> None:
    trunk = TRUNKS[name](5, 3, 4, 2, 0.0).eval()
    out = trunk(torch.randn(7, 5))
    assert out.shape == (7, 3, 4)
    same = bool((out[:, 0] == out[:, 1]).all())
    assert same == (name == "shared_bottom")


def test_gates_mix_experts_by_hand() -> None:
    experts = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    assert mixed(torch.zeros(1, 2), experts).tolist() == [[2.0, 4.0]]
    trunk = MMoE(1, 2, 1, 2, 0.0).eval()
    with torch.no_grad():
        for expert, weight in zip(trunk.experts, (1.0, 3.0), strict=True):
            expert[0].weight.fill_(weight)  # type: ignore[index]
            expert[0].bias.zero_()  # type: ignore[index]
        for gate, logits in zip(trunk.gates, ([[0.0], [0.0]], [[50.0], [0.0]]), strict=True):
            gate.weight.copy_(torch.tensor(logits))
    assert trunk(torch.ones(1, 1)).flatten().tolist() == [2.0, 1.0]


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_the_product_of_two_probabilities(first: float, second: float) -> None:
    a, b = torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64)
    product = torch.sigmoid(a) * torch.sigmoid(b)
    torch.testing.assert_close(torch.sigmoid(product_logit(a, b)), product, rtol=1e-9, atol=1e-300)


def test_a_funnel_scores_the_product_and_learns_the_click() -> None:
    rows = make_training_set()
    ranker = build_ranker(MultiTaskConfig(embedding_dim=4, expert_dim=6, structure="esmm"), rows.spec).eval()
    ranker.prepare(rows)
    assert isinstance(ranker, MultiTask)
    inputs = as_inputs(rows.inputs(rows.rows_of("train")[:20]))  # type: ignore[arg-type]
    user = ranker.encode_user(**{name: inputs[name] for name in ranker.user_inputs})
    item = ranker.encode_item(**{name: inputs[name] for name in ranker.item_inputs})
    with torch.no_grad():
        both = ranker._task_logits(*ranker.joined(user, item))
        assert (both[:, 0] <= both[:, 1]).all()  # no conversion without a click
        torch.testing.assert_close(ranker(**inputs), both[:, 0])
        label, value = torch.ones(20), torch.ones(20)
        click = torch.nn.functional.softplus(-both[:, 1]).mean()
        like = torch.nn.functional.softplus(-both[:, 0]).mean()
        torch.testing.assert_close(ranker.loss(inputs, label, value), click + like)


def test_a_funnel_needs_a_binary_label() -> None:
    spec = make_training_set().spec.model_copy(update={"label_kind": "regression"})
    with pytest.raises(ConfigError, match="binary"):
        build_ranker(MultiTaskConfig(structure="esmm"), spec)
