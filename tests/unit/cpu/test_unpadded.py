"""Texts laid one after the other get the vectors that each gets alone, from whatever model can take them so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lorefuse.config import EmbeddingConfig
from lorefuse.cpu import unpadded
from lorefuse.cpu.unpadded import pack_rows, runs_of, takes_rows
from lorefuse.embedding import encoder
from lorefuse.embedding.encoder import TextEncoder, load_encoder

TEXTS = ["w1 w2 w3", "", "w4", "w5 " * 40, "w1 [PAD] w2", "[PAD] w3", "w1 w2 w3"] + [
    f"w{n} w{n + 1}" for n in range(30)
]


@pytest.fixture(autouse=True)
def own_encoder() -> None:
    """The encoder that is kept belongs to the test."""
    encoder._load_once.cache_clear()


def plainly(loaded: TextEncoder) -> np.ndarray:
    """Each text alone, so without padding; a padding token that stands in a text counts as any other."""
    return np.concatenate([loaded._forward([ids]) for ids in loaded.tokenize(TEXTS)])


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_same_as_each_text_alone(encoders: dict[str, Path], kind: str, pooling: str, num_threads: int) -> None:
    config = EmbeddingConfig(
        encoder=str(encoders[kind]), pooling=pooling, max_tokens=32, tokens_per_batch=64, num_threads=num_threads
    )
    expected = plainly(load_encoder(config, plain=True))
    loaded = load_encoder(config)
    assert takes_rows(loaded.model)
    vectors = loaded.encode(TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_array_equal(vectors, loaded.encode(TEXTS))
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_other_models_stay_as_they_are(encoders: dict[str, Path], kind: str) -> None:
    config = EmbeddingConfig(encoder=str(encoders[kind]), pooling="last_token", max_tokens=32)
    assert not takes_rows(load_encoder(config).model)
    assert not takes_rows(load_encoder(config, plain=True).model)


def test_what_exports_and_trains_gets_no_rows(encoders: dict[str, Path]) -> None:
    assert not takes_rows(load_encoder(EmbeddingConfig(encoder=str(encoders["bert"])), plain=True).model)


def test_a_bert_that_decodes_is_no_encoder_of_rows(encoders: dict[str, Path]) -> None:
    model = load_encoder(EmbeddingConfig(encoder=str(encoders["bert"])), plain=True).model
    model.config.is_decoder = True
    assert not takes_rows(unpadded.lay_in_rows(model))


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [
        (torch.float32, 1.0, 1e-4),
        (torch.float32, 40.0, 1e-4),  # exponentials would overflow and vanish
        (torch.bfloat16, 1.0, 2e-2),
    ],
)
@pytest.mark.parametrize("longest", [unpadded.LONGEST, 5])
def test_attention_is_torchs(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, scale: float, tolerance: float, longest: int
) -> None:
    monkeypatch.setattr(unpadded, "LONGEST", longest)
    query, key, value = torch.randn(3, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    query, key, value = (query * scale).to(dtype), (key * scale).to(dtype), value.to(dtype)
    ours = unpadded.attend(query, key, value, 8**-0.5)
    theirs = nn.functional.scaled_dot_product_attention(query.double(), key.double(), value.double())
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=tolerance)
    assert ours.dtype == dtype


def test_one_softmax_that_overflows_spoils_no_other() -> None:
    query, key, value = torch.randn(3, 2, 7, 8, generator=torch.Generator().manual_seed(1))
    query[1] *= 1e3
    theirs = nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(unpadded.attend(query, key, value, 8**-0.5), theirs, rtol=1e-3, atol=1e-4)


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60), num_heads=st.integers(1, 16))
def test_runs_are_the_lengths(lengths: list[int], num_heads: int) -> None:
    runs = runs_of(lengths, num_heads)
    assert [run.num_tokens for run in runs for _ in range(run.num_texts)] == lengths
    for run in runs:
        assert run.num_texts == 1 or run.num_texts * num_heads * run.num_tokens**2 <= unpadded.NUM_SCORES


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    budget=st.integers(64, 600),
    num_workers=st.integers(1, 4),
)
def test_batches_hold_each_text_once_and_about_equally_many_tokens(
    lengths: list[int], budget: int, num_workers: int
) -> None:
    batches = pack_rows(np.array(lengths, dtype=np.int64), budget, num_workers)
    order = [int(row) for batch in batches for row in batch]
    assert Counter(order) == Counter(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths, reverse=True)
    assert all(sum(lengths[row] for row in batch) <= budget + max(lengths) for batch in batches)
    if sum(lengths) <= budget:
        assert len(batches) == 1
