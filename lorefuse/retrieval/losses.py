"""Losses over what a user liked and what was drawn against it.

Suffixes: ``B`` likes of a batch, ``C`` candidates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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
