"""Losses over what a user liked and what was drawn against it.

Suffixes: ``B`` likes of a batch, ``C`` candidates, ``K`` negatives of a like, ``D`` embedding width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SCORES_AT_A_TIME = 1_000_000
"""Scores that `full_softmax` holds: 4 MB in float32 stay in the cache."""


def bpr(positive_B: Tensor, negative_B: Tensor) -> Tensor:
    """Return the mean of −log σ(score of the liked item − score of a drawn one).

    Args:
        positive_B: Scores of liked items.
        negative_B: Scores of items that the same users did not like.

    Source: BPR, arXiv:1205.2618, section 4.1, without the penalty on the weights.
    """
    loss: Tensor = -nn.functional.logsigmoid(positive_B - negative_B).mean()
    return loss


def sampled_softmax(score_BC: Tensor, target_B: Tensor, item_C: Tensor, log_q_C: Tensor) -> Tensor:
    """Return the mean of −log of the softmax over drawn candidates, corrected for how often each is drawn.

    With s the score of user b and candidate c, and q the chance that a draw gives c, the logit of a drawn candidate is
    s − log((C − 1)·q): what is drawn often, because it is popular, is not punished for it. The target is not drawn but
    given, so its logit is s alone, and draws of it are left out. The sum over the drawn then estimates the sum over all
    items but the target, and the loss that of the full softmax.

    Args:
        score_BC: Scores, already divided by the temperature. Candidate b is the target of row b; more may follow.
        target_B: Item rows of the targets.
        item_C: Item rows of the candidates, the first B are `target_B`.
        log_q_C: Log of the chance, per draw, of each candidate.

    Source: Yi et al., RecSys 2019, section 3, who correct the target too; that the target takes no correction is from
    Blanc and Rendle, ICML 2018, section 2.
    """
    num_rows = len(target_B)
    drawn_target_BC = target_B[:, None] == item_C[None, :]
    drawn_target_BC.diagonal().fill_(False)
    correction_C = log_q_C + math.log(max(len(item_C) - 1, 1))
    logit_BC = score_BC - correction_C[None, :]
    # in place from here on: a copy of this matrix costs as much as all the rest
    logit_BC.diagonal().add_(correction_C[:num_rows])
    logit_BC.masked_fill_(drawn_target_BC, float("-inf"))
    return nn.functional.cross_entropy(logit_BC, torch.arange(num_rows, device=target_B.device))


def log_draw_chance(count_N: Tensor, num_in_batch: int, num_uniform: int) -> Tensor:
    """Return the log of the chance, per draw, of each item in a mix of batch targets and evenly drawn items, (N,).

    A batch target is item n with chance count_n / Σ count; an even draw is any item that has a like. Items that cannot
    be drawn get −inf.

    Args:
        count_N: Likes in train.
        num_in_batch: Batch targets among the candidates.
        num_uniform: Even draws among the candidates.

    Source: Yang et al., WWW 2020 Companion (mixed negative sampling), section 3.
    """
    liked_N = (count_N > 0).to(torch.float32)
    mixed_N = num_in_batch * count_N / count_N.sum() + num_uniform * liked_N / liked_N.sum()
    return torch.log(mixed_N / (num_in_batch + num_uniform))


def full_softmax(user_BD: Tensor, item_CD: Tensor, target_B: Tensor) -> Tensor:
    """Return the mean of −log of the softmax of user · item over all candidates, a part of the batch at a time.

    The scores of a batch of sequences over a catalogue do not fit into memory, and need not: each part's share of both
    gradients is worked out while its scores are there.

    Args:
        user_BD: User vectors.
        item_CD: Item vectors.
        target_B: Columns of the targets.
    """
    loss: Tensor = _FullSoftmax.apply(user_BD, item_CD, target_B)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        context: torch.autograd.function.FunctionCtx, user_BD: Tensor, item_CD: Tensor, target_B: Tensor
    ) -> Tensor:
        size, loss = max(1, SCORES_AT_A_TIME // len(item_CD)), user_BD.new_zeros(())
        user_grad_BD, item_grad_CD = torch.empty_like(user_BD), torch.zeros_like(item_CD)
        for start in range(0, len(user_BD), size):
            part = slice(start, start + size)
            at_B1 = target_B[part, None]
            score_BC = user_BD[part] @ item_CD.T
            wanted_B1, top_B1 = score_BC.gather(1, at_B1), score_BC.amax(dim=1, keepdim=True)
            share_BC = score_BC.sub_(top_B1).exp_()
            total_B1 = share_BC.sum(dim=1, keepdim=True)
            loss += (total_B1.log() + top_B1 - wanted_B1).sum()
            share_BC.div_(total_B1).scatter_add_(1, at_B1, torch.full_like(wanted_B1, -1.0))
            user_grad_BD[part] = share_BC @ item_CD
            item_grad_CD.addmm_(share_BC.T, user_BD[part])
        context.save_for_backward(user_grad_BD / len(user_BD), item_grad_CD / len(user_BD))
        return loss / len(user_BD)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        user_grad_BD, item_grad_CD = context.saved_tensors  # type: ignore[attr-defined]
        return grads[0] * user_grad_BD, grads[0] * item_grad_CD, None


def calibrated_bce(positive_B: Tensor, negative_BK: Tensor, num_items: int, calibration: float) -> Tensor:
    """Return the mean of −β·log σ(score of the liked item) − Σ log(1 − σ(score of a drawn one)).

    With few negatives of many items, scores are taught to be sure of too much; β makes up for it: with k of n negatives
    drawn, a = k / n, β = a·(t·(1 − 1/a) + 1/a), which is 1 for t = 0 and a for t = 1.

    Args:
        positive_B: Scores of liked items.
        negative_BK: Scores of drawn ones.
        num_items: That can be drawn.
        calibration: t.

    Source: SASRec, arXiv:1808.09781, section III.E, which is t = 0 and K = 1; gSASRec, arXiv:2308.07192, eq. 19.
    """
    rate = min(negative_BK.shape[1] / max(num_items - 1, 1), 1.0)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    liked_B = nn.functional.logsigmoid(positive_B) * beta
    loss: Tensor = -(liked_B + nn.functional.logsigmoid(-negative_BK).sum(dim=1)).mean()
    return loss
