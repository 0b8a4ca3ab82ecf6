"""Ranking losses: opponents of the same user, and the loss by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lorefuse.config import DeepFMConfig, TrainingConfig
from lorefuse.core.errors import DataError
from lorefuse.training.listwise import Opponents, ranking_loss
from lorefuse.training.train import train
from tests.helpers.training_rows import make_training_set


def test_opponents_are_the_same_users_other_rows() -> None:
    user, label = np.array([5, 5, 5, 7, 7, 9, 9, 5]), np.array([1, 0, 0, 1, 0, 1, 1, 0.0])
    rows = np.array([0, 1, 2, 3, 4, 5, 6])  # row 7 is no train row; user 9 has nothing to lose against
    opponents = Opponents(user, label, rows)
    drawn = torch.cat([opponents.draw(3, torch.Generator().manual_seed(seed)) for seed in range(20)])
    assert set(drawn[:, 0].tolist()) == {0, 3}
    assert set(drawn[drawn[:, 0] == 0][:, 1:].flatten().tolist()) == {1, 2}
    assert set(drawn[drawn[:, 0] == 3][:, 1:].flatten().tolist()) == {4}


def test_nobody_to_compare_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.negatives"):
        Opponents(np.zeros(3, np.int32), np.ones(3, np.float32), np.arange(3))


def test_two_candidates_are_bpr() -> None:
    logits = torch.tensor([[2.0, 0.5], [0.0, 1.0]])
    wanted = (math.log1p(math.exp(-1.5)) + math.log1p(math.exp(1.0))) / 2
    assert ranking_loss(logits).item() == pytest.approx(wanted)


@pytest.mark.parametrize("loss", ["bpr", "sampled_softmax"])
def test_training_with_a_ranking_loss_ranks(loss: str) -> None:
    config = TrainingConfig(batch_size=64, learning_rate=0.01, max_epochs=4, num_threads=1, embedding_l2=0.0, loss=loss)  # type: ignore[arg-type]
    trained = train(make_training_set(), DeepFMConfig(embedding_dim=4, hidden_dims=(8,)), config)
    assert trained.history.epochs[-1]["train_loss"] < trained.history.epochs[0]["train_loss"]
    assert trained.validation_score > 0.5
