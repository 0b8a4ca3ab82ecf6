"""Match scalars by hand, and the two ways of scoring with them against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorefuse.config import DINConfig
from lorefuse.core.schema import Split
from lorefuse.features.history import with_history
from lorefuse.models.build import build_ranker
from lorefuse.models.history_match import NUM_MATCHES, match_scalars
from lorefuse.models.ranker import as_inputs
from tests.helpers.training_rows import make_training_set


def test_by_hand() -> None:
    cosine = torch.tensor([[0.8, 0.5, -0.5, 0.1, 0.4]])
    present = torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0]])
    recent = (0.4 + 0.7 * 0.1 - 0.49 * 0.5 + 0.343 * 0.5) / (1 + 0.7 + 0.49 + 0.343)
    wanted = [0.5 / 4, 0.5, 1.0 / 3, 0.4, recent]
    assert match_scalars(cosine, present)[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_one_past_item_is_all_there_is() -> None:
    cosine, present = torch.tensor([[0.9, 0.9, 0.9, -0.3]]), torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    assert match_scalars(cosine, present)[0].tolist() == pytest.approx([-0.3] * 5)


def test_no_history_gives_zeros() -> None:
    assert not match_scalars(torch.randn(3, 4), torch.zeros(3, 4)).any()


@pytest.mark.parametrize("length", [1, 2])
def test_a_history_shorter_than_three(length: int) -> None:
    cosine = torch.full((2, length), 0.25)
    assert match_scalars(cosine, torch.ones(2, length)).tolist() == [pytest.approx([0.25] * NUM_MATCHES)] * 2


def test_every_pair_equals_its_row() -> None:
    sample = with_history(make_training_set(), 4)
    ranker = build_ranker(DINConfig(history_length=4), sample.spec)
    ranker.prepare(sample)
    ranker.eval()
    inputs = as_inputs(sample.inputs(sample.rows_of(Split.TRAIN)[-6:]))
    user = ranker.encode_user(**{name: inputs[name] for name in ranker.user_inputs})
    item = ranker.encode_item(**{name: inputs[name] for name in ranker.item_inputs})
    with torch.no_grad():
        every, rows = ranker.cross_all(user, item), ranker.cross(user, item)
    np.testing.assert_allclose(every.diagonal().numpy(), rows.numpy(), atol=1e-6)


def test_without_knowledge_there_is_nothing_to_match() -> None:
    sample = make_training_set()
    spec = sample.spec.model_copy(update={"history_length": 4, "knowledge": (), "interest": ()})
    ranker = build_ranker(DINConfig(history_length=4), spec)
    assert not [name for name, _ in ranker.named_buffers() if "match" in name]


def test_a_liked_items_twin_scores_otherwise_with_than_without() -> None:
    sample = with_history(make_training_set(), 4)
    with_match = build_ranker(DINConfig(history_length=4), sample.spec)
    without = build_ranker(DINConfig(history_length=4, match=False), sample.spec)
    num_spaces = len(with_match.fused_names)
    widths = [ranker.deep[0].in_features for ranker in (with_match, without)]
    assert widths[0] - widths[1] == NUM_MATCHES * num_spaces > 0
