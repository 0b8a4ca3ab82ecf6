"""Items drawn against a user's likes.

Suffixes: ``B`` draws.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw_unliked(
    user_B: Tensor, pairs: Tensor, drawable: Tensor, num_items: int, generator: torch.Generator, num_tries: int = 4
) -> Tensor:
    """Draw an item with a like for each user that the user did not like; after some tries a liked one may stay.

    Args:
        user_B: Users.
        pairs: user · num_items + item of every like, ascending.
        drawable: Items that have a like.
        num_items: N.
        generator: Source of the draws.
        num_tries: Rounds; each redraws those that hit a like.
    """

    def draw(count: int) -> Tensor:
        return drawable[torch.randint(len(drawable), (count,), generator=generator)]

    drawn_B = draw(len(user_B))
    for _ in range(num_tries - 1):
        wanted_B = user_B * num_items + drawn_B
        at_B = torch.searchsorted(pairs, wanted_B).clamp(max=len(pairs) - 1)
        liked = torch.nonzero(pairs[at_B] == wanted_B).squeeze(1)
        drawn_B[liked] = draw(len(liked))
    return drawn_B
