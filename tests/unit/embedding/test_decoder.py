"""Decoder LLMs as encoders: last-token pooling, end tokens, instructions, and whichever side the tokenizer pads."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers.processors import TemplateProcessing

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ConfigError
from lorefuse.embedding.encoder import load_encoder

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10", "w11 w12"]


def config_of(path: Path, **options: object) -> EmbeddingConfig:
    content = {"pooling": "last_token", "num_threads": 1, "max_tokens": 32, "encoder": str(path)} | options
    return EmbeddingConfig.model_validate(content)


def left_padded(path: Path, texts: list[str], suffix: str = "") -> np.ndarray:
    """As a model card would do it: the tokenizer pads on the left, and the last position is pooled."""
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(path), transformers.AutoModel.from_pretrained(path)
    assert tokenizer.padding_side == "left"
    batch = tokenizer([text + suffix for text in texts], padding=True, return_tensors="pt")
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        hidden = model.eval()(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], position_ids=positions
        ).last_hidden_state
    return torch.nn.functional.normalize(hidden[:, -1], dim=1).numpy()


def test_right_padding_gives_what_left_padding_gives(encoders: dict[str, Path]) -> None:
    vectors = load_encoder(config_of(encoders["qwen2"])).encode(TEXTS)
    np.testing.assert_allclose(vectors, left_padded(encoders["qwen2"], TEXTS), atol=1e-4)
    assert not np.allclose(vectors[0], vectors[1], atol=0.05)


def test_the_end_token_is_read_where_it_is_asked_for(encoders: dict[str, Path]) -> None:
    ended = load_encoder(config_of(encoders["qwen2"], append_eos=True)).encode(TEXTS)
    np.testing.assert_allclose(ended, left_padded(encoders["qwen2"], TEXTS, suffix="<|im_end|>"), atol=1e-4)
    assert not np.allclose(ended, load_encoder(config_of(encoders["qwen2"])).encode(TEXTS), atol=0.05)


def test_the_end_token_survives_the_cut_and_is_never_doubled(encoders: dict[str, Path]) -> None:
    encoder = load_encoder(config_of(encoders["qwen2"], append_eos=True, max_tokens=16))
    encoder.tokenizer = copy.deepcopy(encoder.tokenizer)  # the loaded one is kept for later calls
    end_id = encoder.tokenizer.eos_token_id
    cut = encoder.tokenize(["w1 " * 50])[0]
    assert len(cut) == 16
    assert cut[-1] == end_id
    encoder.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", end_id)]
    )
    assert encoder.tokenize(["w1 w2"])[0].count(end_id) == 1


def test_texts_are_cut_on_the_right_whatever_the_tokenizer_does(encoders: dict[str, Path]) -> None:
    encoder = load_encoder(config_of(encoders["qwen2"], max_tokens=16))
    ids = encoder.tokenize([" ".join(f"w{n}" for n in range(40))])[0]
    assert encoder.tokenizer.decode(ids) == "w0 w1 w2 w3 w4 w"


def test_an_instruction_stands_before_each_text(encoders: dict[str, Path]) -> None:
    plain = load_encoder(config_of(encoders["llama"]))
    told = load_encoder(config_of(encoders["llama"], instruction="w40 w41 "))
    np.testing.assert_array_equal(told.encode(TEXTS), plain.encode([f"w40 w41 {text}" for text in TEXTS]))


def test_no_end_token_to_append(encoders: dict[str, Path]) -> None:
    encoder = load_encoder(config_of(encoders["bert"], append_eos=True))
    with pytest.raises(ConfigError, match="no end token"):
        encoder.encode(["w1"])


def test_lengths_are_kept_where_they_are_asked_for(encoders: dict[str, Path]) -> None:
    unit = load_encoder(config_of(encoders["llama"])).encode(TEXTS)
    raw = load_encoder(config_of(encoders["llama"], normalize=False)).encode(TEXTS)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.1).all()
    np.testing.assert_allclose(raw / lengths, unit, atol=1e-5)
