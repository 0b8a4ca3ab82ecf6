from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.retrieval import losses
from lorefuse.retrieval.losses import bpr, calibrated_bce, full_softmax, log_draw_chance, sampled_softmax


def test_bpr_by_hand() -> None:
    # differences 0 and ln 3: −log σ(0) = ln 2, −log σ(ln 3) = ln(4/3)
    loss = bpr(torch.tensor([1.0, math.log(3)]), torch.tensor([1.0, 0.0]))
    assert float(loss) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, abs=1e-6)


def test_bpr_pulls_the_liked_up_and_the_drawn_down() -> None:
    liked, drawn = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    bpr(liked, drawn).backward()
    assert liked.grad is not None
    assert drawn.grad is not None
    assert float(liked.grad) == pytest.approx(-0.5)
    assert float(drawn.grad) == pytest.approx(0.5)


def test_sampled_softmax_by_hand() -> None:
    # one draw against each target, with chances 1/4 and 1/2: logits (0, ln 3 + ln 4) and (0, ln 3 + ln 2)
    score = torch.tensor([[0.0, math.log(3)], [math.log(3), 0.0]])
    loss = sampled_softmax(score, torch.tensor([5, 7]), torch.tensor([5, 7]), torch.tensor([0.5, 0.25]).log())
    assert float(loss) == pytest.approx((math.log(1 + 12) + math.log(1 + 6)) / 2, abs=1e-6)


def test_a_users_own_target_is_no_negative() -> None:
    score = torch.tensor([[0.0, 9.0, 1.0, 9.0], [9.0, 0.0, 1.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    items, log_q = torch.tensor([5, 5, 7, 5]), torch.full((4,), -math.log(3))  # (C − 1)·q = 1
    loss = sampled_softmax(score, items[:3], items, log_q)
    # rows 0 and 1 have only candidate 2 against them; row 2 has all four
    assert float(loss) == pytest.approx((2 * math.log(1 + math.e) + math.log(4)) / 3, abs=1e-6)


def test_even_chances_change_nothing() -> None:
    score = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    items = torch.arange(6)
    plain = torch.nn.functional.cross_entropy(score, items)
    corrected = sampled_softmax(score, items, items, torch.full((6,), -math.log(5)))
    assert float(corrected) == pytest.approx(float(plain), abs=1e-6)


def test_draw_chances_by_hand() -> None:
    # 3 of 4 likes on item 0; a batch of 2 and 6 even draws over the two liked items
    got = log_draw_chance(torch.tensor([3.0, 1.0, 0.0]), 2, 6).exp()
    assert got.tolist() == pytest.approx([(2 * 0.75 + 6 * 0.5) / 8, (2 * 0.25 + 6 * 0.5) / 8, 0.0])


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.integers(1, 50), st.integers(0, 50))
def test_draw_chances_sum_to_one(counts: list[int], num_in_batch: int, num_uniform: int) -> None:
    chances = log_draw_chance(torch.tensor(counts, dtype=torch.float32), num_in_batch, num_uniform).exp()
    assert float(chances.sum()) == pytest.approx(1, abs=1e-5)


def test_the_correction_recovers_the_full_softmax() -> None:
    # The score that minimises the corrected loss is log p(item), however unevenly candidates are drawn.
    generator = torch.Generator().manual_seed(0)
    wanted = torch.tensor([0.5, 0.3, 0.15, 0.05])
    score = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.02)
    for _ in range(600):
        target = torch.multinomial(wanted, 256, replacement=True, generator=generator)
        loss = sampled_softmax(score[target].expand(256, -1), target, target, wanted.log()[target])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.allclose(score.detach().softmax(0), wanted, atol=0.04)


@pytest.mark.parametrize("scores_at_a_time", [1, 12, 1000])
def test_full_softmax_in_parts_is_cross_entropy(scores_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SCORES_AT_A_TIME", scores_at_a_time)
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn(size, 3, generator=generator, dtype=torch.float64) for size in (7, 5))
    target, grads = torch.tensor([0, 4, 2, 2, 1, 0, 3]), []
    for loss_of in (full_softmax, lambda u, i, t: torch.nn.functional.cross_entropy(u @ i.T, t)):
        leaves = [part.clone().requires_grad_() for part in (user, item)]
        loss = loss_of(*leaves, target) * 3
        loss.backward()
        grads.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for ours, torchs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, torchs)


def test_full_softmax_bears_large_scores() -> None:
    loss = full_softmax(torch.tensor([[1e4]]), torch.tensor([[1.0], [0.5]]), torch.tensor([1]))
    assert float(loss) == pytest.approx(5e3)


def test_calibrated_bce_by_hand() -> None:
    # two negatives of 9 items that can be drawn: a = 2 / 8; σ(0) = 1/2, σ(ln 3) = 3/4
    positive, negative = torch.tensor([math.log(3)]), torch.tensor([[0.0, math.log(3)]])
    drawn = math.log(2) + math.log(4)
    for calibration, beta in ((0.0, 1.0), (1.0, 0.25), (0.5, 0.625)):
        loss = calibrated_bce(positive, negative, 9, calibration)
        assert float(loss) == pytest.approx(beta * math.log(4 / 3) + drawn, abs=1e-6)
