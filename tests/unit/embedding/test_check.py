"""Encoders that have nothing to say: damaged weights, one vector for everything."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorefuse.config import EmbeddingConfig
from lorefuse.core.atomic import sha256_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.settings import settings
from lorefuse.embedding import check, embed
from lorefuse.embedding.cache import EmbeddingCache
from lorefuse.embedding.fingerprint import encoded_space

TEXTS = [f"w{n} w{n + 1}" for n in range(20)]


def _with_weights(encoder_path: Path, folder_path: Path, factor: float, only: str = "") -> EmbeddingConfig:
    shutil.copytree(encoder_path, folder_path)
    weights = load_file(str(folder_path / "model.safetensors"))
    changed = {name: value * torch.tensor(factor) if only in name else value for name, value in weights.items()}
    save_file(changed, str(folder_path / "model.safetensors"), metadata={"format": "pt"})
    return EmbeddingConfig(encoder=str(folder_path), num_threads=1, prompt="plain@1")


def test_damaged_weights(encoders: dict[str, Path], tmp_path: Path) -> None:
    config = _with_weights(encoders["bert"], tmp_path / "nan", float("nan"), "layer.1.output.dense.weight")
    with pytest.raises(ArtifactError, match=r"(?s)nan gave vectors that are not finite.*20 of 20 texts"):
        embed.embed_texts(TEXTS, config)


@pytest.mark.parametrize("only", ["", "word_embeddings"], ids=["zeros", "one vector"])
def test_one_vector_for_every_text(encoders: dict[str, Path], tmp_path: Path, only: str) -> None:
    config = _with_weights(encoders["bert"], tmp_path / "flat", 0.0, only)
    texts = [f"w{n} w{n + 1}" for n in range(20)]  # of one length: places are all that is left to tell them by
    with pytest.raises(ArtifactError, match=r"(?s)flat gave one and the same vector.*20 different texts, one vector"):
        embed.embed_texts(texts, config)


def test_a_script_that_the_tokenizer_does_not_know(encoders: dict[str, Path]) -> None:
    config = EmbeddingConfig(encoder=str(encoders["bert"]), num_threads=1, prompt="plain@1")
    with pytest.raises(ArtifactError, match="does it know the script of these texts"):
        embed.embed_texts([chr(0x4E00 + n) for n in range(20)], config)


def test_what_the_cache_holds_is_looked_at_too(encoders: dict[str, Path]) -> None:
    config = EmbeddingConfig(encoder=str(encoders["bert"]), num_threads=1, prompt="plain@1")
    vectors, _ = embed.embed_texts(TEXTS, config)
    assert np.isfinite(vectors).all()
    space = encoded_space(config)
    cache = EmbeddingCache(settings().cache_path / "embeddings.sqlite", sha256_json(space), space["dim"])
    cache.put(TEXTS[:1], np.full((1, space["dim"]), np.nan, np.float32))
    with pytest.raises(ArtifactError, match="1 of 20 texts"):
        embed.embed_texts(TEXTS, config)


def test_a_few_texts_may_be_the_same_to_an_encoder() -> None:
    same = np.ones((check.MIN_TEXTS - 1, 4), np.float32)
    check.check_spread(same, EmbeddingConfig())
    check.check_spread(np.vstack([same, same, 1.001 * same[:1]]), EmbeddingConfig())
    with pytest.raises(ArtifactError):
        check.check_spread(np.vstack([same, same]), EmbeddingConfig())
