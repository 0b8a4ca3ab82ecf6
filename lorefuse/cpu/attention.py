"""Attention in bfloat16 on a CPU as two products and one exponential: half the time of torch's kernel on short texts.

torch's kernel takes softmax row by row, and rows of short texts are shorter than a vector register or two. Here the
exponential runs over all scores at once, and the sum of a row comes out of the second product, as a column of ones
beside the values: ``softmax(S) V = exp(S) V / exp(S) 1``. A row's maximum, which softmax takes off first, is taken off
only where an exponential could overflow, or all of a row underflow.

Suffixes: ``B`` texts, ``H`` heads, ``T`` tokens, ``D`` width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "lorefuse"
MAX_TOKENS = 1024
"""Longer texts take torch's way, which does not write all scores down."""
MAX_SCORE = 60.0
"""exp(60) times as many tokens is far below the largest number, and exp(-60) far above the smallest."""


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend, as transformers' attention functions do.

    Args:
        module: The layer that asks.
        query: (B, H, T, D).
        key: (B, H, T, D); fewer heads, as in decoders, take torch's way.
        value: The same.
        attention_mask: bool, (B, 1, T, T): who sees whom; another type takes torch's way. None: all see all, or what
            the layer says.
        options: ``scaling``, and what else transformers hands on.

    Returns:
        (B, T, H, D), and no weights.
    """
    is_plain = attention_mask is None or attention_mask.dtype == torch.bool
    if is_plain and _is_plain(module, query, key, options):
        return _by_products(query, key, value, attention_mask, options.get("scaling")), None
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    answer: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return answer


def use(model: Any) -> None:
    """Make a transformers model use `attend`, if it lets its attention be chosen.

    Args:
        model: In evaluation mode.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def _is_plain(module: nn.Module, query: Tensor, key: Tensor, options: dict[str, Any]) -> bool:
    causal = options.get("is_causal") or (options.get("is_causal") is None and getattr(module, "is_causal", False))
    short = query.shape == key.shape and query.shape[2] <= MAX_TOKENS
    return short and not causal and options.get("position_bias") is None


def _by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores_BHTT = torch.matmul(scaled, key.transpose(2, 3))
    lowest, highest = torch.aminmax(scores_BHTT)
    if float(lowest) > -MAX_SCORE and float(highest) < MAX_SCORE:
        weights_BHTT = scores_BHTT.exp_() if mask is None else scores_BHTT.exp_().mul_(mask)
    else:
        if mask is not None:
            scores_BHTT.masked_fill_(~mask, -torch.inf)
        lowest_finite = torch.finfo(scores_BHTT.dtype).min  # of a row that sees nothing
        weights_BHTT = scores_BHTT.sub_(scores_BHTT.amax(-1, keepdim=True).clamp_(min=lowest_finite)).exp_()
    summed = torch.matmul(weights_BHTT, nn.functional.pad(value, (0, 1), value=1.0))
    # A row that sees nothing is padding of padding: zeros, which nobody reads.
    found_BHTD = summed[..., :-1] / summed[..., -1:].clamp(min=torch.finfo(summed.dtype).tiny)
    return found_BHTD.transpose(1, 2).contiguous()
