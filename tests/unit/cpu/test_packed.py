"""What makes the encoder fast on some CPUs changes nothing but the last bits, and leaves exports and training alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lorefuse.config import EmbeddingConfig
from lorefuse.cpu import attention, packed
from lorefuse.cpu.packed import PackedLinear
from lorefuse.embedding import encoder
from lorefuse.embedding.encoder import load_encoder

TEXTS = ["w1 w2 w3", "", "w4", "w5 " * 40] + [f"w{n} w{n + 1}" for n in range(30)]
NO_BF16 = not torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture(autouse=True)
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take oneDNN on every CPU; the encoder that is kept belongs to the test."""
    monkeypatch.setattr(packed, "onednn_is_faster", lambda: True)
    encoder._load_once.cache_clear()


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        ("float32", 1e-6),
        pytest.param("bfloat16", 2e-3, marks=pytest.mark.skipif(NO_BF16, reason="oneDNN has no bfloat16 on this CPU")),
    ],
)
def test_packed_encoder_gives_the_plain_ones_vectors(
    encoders: dict[str, Path], kind: str, dtype: str, tolerance: float
) -> None:
    pooling = "mean" if kind == "bert" else "last_token"
    config = EmbeddingConfig(encoder=str(encoders[kind]), pooling=pooling, max_tokens=32, dtype=dtype)
    fast, plain = load_encoder(config), load_encoder(config, plain=True)
    num_packed = sum(isinstance(module, PackedLinear) for module in fast.model.modules())
    assert (num_packed > 0) == (kind != "gpt2")  # its layers are no `nn.Linear`
    assert not any(isinstance(module, (PackedLinear, nn.Identity)) for module in plain.model.modules())
    cosine = (fast.encode(TEXTS) * plain.encode(TEXTS)).sum(1)
    assert cosine.min() > 1 - tolerance


def test_gelu_joins_the_product(encoders: dict[str, Path]) -> None:
    model = load_encoder(EmbeddingConfig(encoder=str(encoders["bert"]))).model
    blocks = [module for module in model.modules() if hasattr(module, "intermediate_act_fn")]
    assert blocks
    assert all(block.dense.has_gelu and isinstance(block.intermediate_act_fn, nn.Identity) for block in blocks)
    layer, values = nn.Linear(40, 24), torch.randn(3, 5, 40)
    joined = PackedLinear(layer)
    joined.has_gelu = True
    torch.testing.assert_close(joined(values), nn.functional.gelu(layer(values)), rtol=1e-4, atol=1e-5)


def attended(mask: Tensor | None, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    query, key, value = torch.randn(3, 4, 2, 7, 8, generator=torch.Generator().manual_seed(0)) * scale
    ours, weights = attention.attend(nn.Identity(), query, key, value, mask, scaling=8**-0.5)
    assert weights is None
    theirs = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return ours, theirs.transpose(1, 2)


@pytest.mark.parametrize("scale", [1.0, 30.0])  # of exponentials that would overflow, too
def test_attention_is_torchs(scale: float) -> None:
    lengths = torch.tensor([7, 3, 1, 5])
    padding = (torch.arange(7) < lengths[:, None])[:, None, None, :].expand(4, 1, 7, 7)
    window = (torch.arange(7)[:, None] - torch.arange(7)).abs() < 3
    for mask in (None, padding, padding & window | torch.eye(7, dtype=torch.bool)):
        torch.testing.assert_close(*attended(mask, scale), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_row_that_sees_nothing_is_finite(scale: float) -> None:
    mask = torch.ones(4, 1, 7, 7, dtype=torch.bool)
    mask[0, :, 3] = False
    ours, _ = attended(mask, scale)
    assert torch.equal(ours[0, 3], torch.zeros(2, 8))


def test_what_is_not_plain_takes_torchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_by_products", lambda *_: pytest.fail("not for this"))
    query, key = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8)
    causal, plain = nn.Identity(), nn.Identity()
    causal.is_causal, plain.num_key_value_groups = True, 2  # type: ignore[assignment]
    attention.attend(plain, query, key, key, None, scaling=1.0)
    attention.attend(nn.Identity(), query, query, query, torch.zeros(1, 1, 5, 5), scaling=1.0)  # a mask to add
    ours, _ = attention.attend(causal, query, query, query, None, scaling=8**-0.5)
    expected = nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
    torch.testing.assert_close(ours, expected.transpose(1, 2))


def test_batches_end_before_texts_that_would_be_padded_by_much() -> None:
    lengths = np.array([60] * 6 + [40] * 10, dtype=np.int64)
    assert [len(rows) for rows in encoder.pack(lengths, 1024)] == [6, 10]
    few = np.array([60] * 2 + [40] * 10, dtype=np.int64)
    assert len(encoder.pack(few, 1024)[0]) == 5  # too few tokens for a batch of their own
