"""How near a candidate is to what the user liked, in the frozen space of the items' knowledge.

One mean over the history blurs somebody who likes two kinds of things. The nearest liked item, the last one and the
recent ones each say something else; a model gets them as numbers, and a candidate that nobody has seen has them too.

Suffixes: ``B`` rows, ``N`` candidates, ``L`` history length, ``E`` knowledge dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_MATCHES = 5
"""Numbers of one space: mean, nearest, mean of the nearest three, last, recent."""
_NUM_NEAREST = 3
_DECAY = 0.7
"""How much less the item before counts in the recent mean."""


def match_scalars(similarity_XL: Tensor, present_XL: Tensor) -> Tensor:
    """Sum a candidate's cosines with past items up in `NUM_MATCHES` numbers; zeros where there is no history.

    Args:
        similarity_XL: Cosines, (…, L), oldest first.
        present_XL: 1 where there is a past item and 0 for padding, (…, L).

    Returns:
        Mean, maximum, mean of the three largest, the last, and the mean with weight 0.7 to the power of the age:
        (…, 5).

    Example:
        >>> cosine, present = torch.tensor([[0.9, 0.5, -0.1, 0.4]]), torch.tensor([[0.0, 1.0, 1.0, 1.0]])
        >>> [round(value, 3) for value in match_scalars(cosine, present)[0].tolist()]
        [0.267, 0.5, 0.267, 0.4, 0.263]
    """
    length = similarity_XL.shape[-1]
    num_X = present_XL.sum(-1)
    known_XL = similarity_XL * present_XL
    at_least_one_X = num_X.clamp(min=1)
    # Below any cosine, so that padding comes last.
    nearest_XK = (known_XL - 4 * (1 - present_XL)).topk(min(_NUM_NEAREST, length), dim=-1).values
    nearest_XK = nearest_XK * (nearest_XK > -2).to(nearest_XK.dtype)
    num_nearest_X = num_X.clamp(min=1, max=nearest_XK.shape[-1])
    ages = torch.arange(length - 1, -1, -1, dtype=similarity_XL.dtype, device=similarity_XL.device)
    weight_XL = present_XL * _DECAY**ages
    recent_X = (known_XL * weight_XL).sum(-1) / weight_XL.sum(-1).clamp(min=1e-6)
    return torch.stack(
        [
            known_XL.sum(-1) / at_least_one_X,
            nearest_XK[..., 0],
            nearest_XK.sum(-1) / num_nearest_X,
            known_XL[..., -1],
            recent_X,
        ],
        dim=-1,
    )
