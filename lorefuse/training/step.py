"""The loss of one training step, and scores without gradients.

Suffixes: ``B`` rows, ``P`` liked rows, ``C`` candidates of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorefuse.models.ranker import Ranker
from lorefuse.training.batches import Batches
from lorefuse.training.listwise import ranking_loss


def step_loss(
    ranker: Ranker, batches: Batches, rows: Tensor, *, items: Tensor | None = None, weight: float = 1.0
) -> Tensor:
    """Return the loss of some rows: pointwise for rows (B,), a ranking loss for candidates (P, C), the liked one first.

    Args:
        ranker: In training mode.
        batches: Tables of the rows.
        rows: What this process computes.
        items: Item rows of the whole batch, where `rows` is a share of it: what is no mean over rows is computed from
            all of it.
        weight: Factor of the part that is a mean over rows.
    """
    inputs = batches.inputs(rows.flatten())
    if rows.ndim == 1:
        label_B, value_B = batches.label.index_select(0, rows), batches.value.index_select(0, rows)
        loss = ranker.row_loss(inputs, label_B, value_B)
    else:
        loss = ranking_loss(ranker(**inputs).view(rows.shape))
    if items is not None:
        loss = loss * weight
    if not ranker.has_auxiliary_loss:
        return loss
    extra = ranker.auxiliary_loss(inputs if items is None else batches.of_items(items))
    return loss if extra is None else loss + extra


def predict(ranker: Ranker, batches: Batches, rows: Tensor, batch_size: int = 8192) -> Tensor:
    """Return the logits of some rows, (B,), without gradients; dropout off."""
    ranker.eval()
    with torch.no_grad():
        return torch.cat([ranker(**batches.inputs(part)) for part in torch.split(rows, batch_size)])
