"""Token vectors → one text vector. Suffixes: ``B`` texts, ``T`` tokens, ``H`` hidden size."""

from __future__ import annotations

import torch
from torch import Tensor


def pool(hidden_BTH: Tensor, mask_BT: Tensor, kind: str, normalize: bool = True) -> Tensor:
    """Pool the last hidden state; padding never counts, on whichever side it stands.

    Args:
        hidden_BTH: Last hidden state, floating point.
        mask_BT: 1 for a token, 0 for padding.
        kind: ``mean`` over tokens; ``cls``, the first token (BERT, arXiv:1810.04805); or ``last_token``, the last
            one, which alone has seen the whole text in a decoder (E5-Mistral, arXiv:2401.00368).
        normalize: Scale to unit length.

    Returns:
        Vectors, shape (B, H), float32.
    """
    rows_B = torch.arange(hidden_BTH.shape[0], device=hidden_BTH.device)
    if kind == "mean":
        weights_BT1 = mask_BT.unsqueeze(-1).to(torch.float32)
        pooled_BH = (hidden_BTH.float() * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1)
    elif kind == "cls":
        pooled_BH = hidden_BTH[rows_B, mask_BT.long().argmax(1)].float()
    elif kind == "last_token":
        last_B = mask_BT.shape[1] - 1 - mask_BT.long().flip(1).argmax(1)
        pooled_BH = hidden_BTH[rows_B, last_B].float()
    else:
        raise ValueError(f"pooling must be mean, cls or last_token, not {kind!r}")
    return torch.nn.functional.normalize(pooled_BH, dim=1) if normalize else pooled_BH
