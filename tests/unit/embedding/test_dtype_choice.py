"""The arithmetic that `dtype: auto` chooses: what passes, what it is addressed by, and that it stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lorefuse.config import EmbeddingConfig, PipelineConfig
from lorefuse.core.errors import ConfigError
from lorefuse.embedding import dtype_choice, embed
from lorefuse.embedding.fingerprint import space_of
from lorefuse.embedding.shards import embed_shard

from .test_embed import dataset  # noqa: F401  (a fixture)

TEXTS = [f"w{n % 60} w{n * 7 % 59}" + " w3" * (n % 4) + " w8" * (n // 60) for n in range(120)]


@pytest.fixture
def auto(encoders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingConfig:
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(dtype_choice, "NUM_NEIGHBOURS", 3)
    return EmbeddingConfig(encoder=str(encoders["bert"]), dtype="auto", num_threads=1, prompt="plain@1")


def named(config: EmbeddingConfig, dtype: str) -> EmbeddingConfig:
    return config.model_copy(update={"dtype": dtype})


def test_what_is_fast_and_near_is_taken_and_addressed_by_its_name(
    auto: EmbeddingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtype_choice, "MIN_SPEEDUP", 0.0)
    monkeypatch.setattr(dtype_choice, "MIN_OVERLAP", 0.2)
    monkeypatch.setattr(dtype_choice, "MIN_COSINE", 0.9)
    record = dtype_choice.choose(auto, TEXTS)
    assert record["dtype"] == "bfloat16"
    assert record["num_texts"] == len(set(TEXTS))
    figures = record["measured"]["bfloat16"]
    assert figures["mean_cosine"] > 0.9
    assert 0.2 <= figures["overlap"] <= 1
    assert space_of(auto) == space_of(named(auto, "bfloat16")) != space_of(named(auto, "float32"))
    vectors, report = embed.embed_texts(TEXTS[:3], auto)
    again, known = embed.embed_texts(TEXTS[:3], named(auto, "bfloat16"))
    assert (report["num_encoded"], known["num_encoded"]) == (3, 0)
    np.testing.assert_array_equal(vectors, again)
    assert embed.embed_texts(TEXTS[:3], named(auto, "float32"))[1]["num_encoded"] == 3


@pytest.mark.parametrize(("limit", "value"), [("MIN_SPEEDUP", 1e9), ("MIN_OVERLAP", 1.01), ("MIN_COSINE", 1.01)])
def test_what_fails_one_of_the_limits_is_not(
    auto: EmbeddingConfig, limit: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtype_choice, "MIN_SPEEDUP", 0.0)
    monkeypatch.setattr(dtype_choice, limit, value)
    assert dtype_choice.choose(auto, TEXTS)["dtype"] == "float32"
    assert space_of(auto) == space_of(named(auto, "float32"))


def test_a_choice_stays(auto: EmbeddingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dtype_choice.choose(auto, TEXTS[:5])
    assert (few["dtype"], few["measured"]) == ("float32", {})
    monkeypatch.setattr(dtype_choice, "MIN_SPEEDUP", 0.0)
    assert dtype_choice.choose(auto, TEXTS) == few


def test_only_the_embed_step_chooses_and_the_others_follow_it(
    auto: EmbeddingConfig,
    dataset: object,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for refused in (lambda: embed.embed_texts(["w1"], auto), lambda: embed_shard(dataset, auto, 0, tmp_path)):
        with pytest.raises(ConfigError, match="auto") as caught:
            refused()
        assert "fix:" in str(caught.value)
    (tmp_path / "out").mkdir()
    facts = embed.embed_items(dataset, auto, tmp_path / "out")
    assert facts["space"]["dtype"] == facts["choice"]["dtype"] == "float32"
    assert json.loads((tmp_path / "out" / dtype_choice.FACTS_FILE).read_text("utf-8"))["choice"] == facts["choice"]
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "elsewhere"))
    assert dtype_choice.pinned(auto, tmp_path / "out").dtype == "float32"
    with pytest.raises(ConfigError, match="auto"):
        dtype_choice.pinned(auto, tmp_path)


def test_the_served_encoder_computes_in_float32_alone() -> None:
    with pytest.raises(ValueError, match=r"embedding\.dtype float32"):
        PipelineConfig(embedding={"dtype": "auto"}, serving={"embed": True})


def test_overlap() -> None:
    line = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], dtype=np.float32)
    assert dtype_choice.overlap(line, line, 1) == 1
    assert dtype_choice.overlap(line, line[[0, 2, 1, 3]], 1) == 0
