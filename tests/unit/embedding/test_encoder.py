"""The encoder: order, packing, truncation and every kind of model, against one text at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ArtifactError, ConfigError, UnreachableError
from lorefuse.embedding.encoder import load_encoder, pack
from lorefuse.embedding.pooling import pool
from lorefuse.embedding.source import resolve

TEXTS = ["w1 w2 w3", "", "w4", "w5 " * 40, "w6 w7 unheard", "w1 w2 w3", "w9 w8 w7 w6 w5 w4"] + [
    f"w{n} w{n + 1}" for n in range(30)
]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 300), max_size=60), budget=st.integers(64, 600))
def test_pack_keeps_each_row_once_and_the_budget(lengths: list[int], budget: int) -> None:
    batches = pack(np.array(lengths, dtype=np.int64), budget)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= budget


def one_by_one(path: Path, pooling: str, max_tokens: int) -> np.ndarray:
    """The same numbers the plain way: no batches, so no padding and no mask."""
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(path), transformers.AutoModel.from_pretrained(path)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    rows = []
    for text in TEXTS:
        ids = tokenizer.backend_tokenizer.encode(text).ids or [tokenizer.eos_token_id]
        if len(ids) > max_tokens:
            ids = ids[: max_tokens - 1] + ids[-1:] if tokenizer.cls_token else ids[:max_tokens]
        with torch.inference_mode():
            hidden = model.eval()(input_ids=torch.tensor([ids])).last_hidden_state
            rows.append(pool(hidden, torch.ones(1, len(ids), dtype=torch.int64), pooling)[0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(
    ("kind", "pooling"), [("bert", "mean"), ("bert", "cls"), ("llama", "last_token"), ("gpt2", "last_token")]
)
def test_same_as_one_text_at_a_time(encoders: dict[str, Path], kind: str, pooling: str, num_threads: int) -> None:
    config = EmbeddingConfig(
        encoder=str(encoders[kind]), pooling=pooling, max_tokens=32, tokens_per_batch=64, num_threads=num_threads
    )
    before = torch.get_num_threads()
    encoder = load_encoder(config)
    vectors = encoder.encode(TEXTS)
    assert torch.get_num_threads() == before
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, one_by_one(encoders[kind], pooling, 32), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[2], atol=0.05)
    assert encoder.encode([]).shape == (0, 16)


def test_texts_are_cut_at_the_models_positions(encoders: dict[str, Path]) -> None:
    encoder = load_encoder(EmbeddingConfig(encoder=str(encoders["bert"]), max_tokens=512))
    assert encoder.max_tokens == 64
    encoder.encode(["w1 " * 500])
    assert encoder.num_tokens == 64


def test_bfloat16(encoders: dict[str, Path]) -> None:
    exact, coarse = (
        load_encoder(EmbeddingConfig(encoder=str(encoders["bert"]), dtype=dtype)).encode(TEXTS)
        for dtype in ("float32", "bfloat16")
    )
    assert coarse.dtype == np.float32
    assert (exact * coarse).sum(1).min() > 0.99


def test_an_error_in_a_batch_is_raised_and_threads_are_given_back(
    encoders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(EmbeddingConfig(encoder=str(encoders["bert"]), num_threads=2, tokens_per_batch=64))
    before = torch.get_num_threads()

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(encoder, "_forward", fail)
    with pytest.raises(MemoryError, match="no room"):
        encoder.encode(TEXTS)
    assert torch.get_num_threads() == before


def test_a_changed_folder_has_another_revision(encoders: dict[str, Path], tmp_path: Path) -> None:
    copy_path = tmp_path / "moved" / "tiny-bert"
    shutil.copytree(encoders["bert"], copy_path)
    config = EmbeddingConfig(encoder=str(copy_path))
    first = resolve(config)
    original = resolve(EmbeddingConfig(encoder=str(encoders["bert"])))
    assert (first.name, first.revision) == (original.name, original.revision)
    weights = bytearray((copy_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy_path / "model.safetensors").write_bytes(weights)
    assert resolve(config).revision != first.revision


def broken(folder_path: Path, how: str) -> Path:
    weights_path = folder_path / "model.safetensors"
    if how == "pickle":
        torch.save({}, folder_path / "pytorch_model.bin")
        weights_path.unlink()
    elif how == "cut":
        weights_path.write_bytes(weights_path.read_bytes()[:-100])
    elif how == "no config":
        (folder_path / "config.json").unlink()
    elif how == "other layers":
        config_path = folder_path / "config.json"
        config_path.write_text(config_path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    elif how == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder_path / name).unlink()
    else:
        for file in folder_path.iterdir():
            file.unlink()
    return folder_path


@pytest.mark.parametrize("how", ["pickle", "cut", "no config", "other layers", "no tokenizer", "empty"])
def test_a_folder_that_is_not_whole_is_refused(encoders: dict[str, Path], tmp_path: Path, how: str) -> None:
    shutil.copytree(encoders["bert"], tmp_path / "encoder")
    with pytest.raises(ArtifactError) as caught:
        load_encoder(EmbeddingConfig(encoder=str(broken(tmp_path / "encoder", how))))
    assert "expected:" in str(caught.value)
    assert "fix:" in str(caught.value)


@pytest.mark.parametrize(
    ("encoder", "error"),
    [
        ("./no/such/folder", ConfigError),
        ("not a name", ConfigError),
        ("nobody/no-such-encoder", UnreachableError),  # the hub must not be asked, so nobody can say it is unknown
    ],
)
def test_an_unknown_encoder_is_one_clear_error(
    encoder: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOREFUSE_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match="encoder") as caught:
        load_encoder(EmbeddingConfig(encoder=encoder))
    assert "fix:" in str(caught.value)


def test_an_encoder_decoder_is_refused(tmp_path: Path, encoders: dict[str, Path]) -> None:
    shutil.copytree(encoders["gpt2"], tmp_path / "t5")
    config = transformers.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5Model(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match="encoder-decoder"):
        load_encoder(EmbeddingConfig(encoder=str(tmp_path / "t5")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, so it can be used")
def test_a_device_that_is_not_there(encoders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"embedding\.device"):
        load_encoder(EmbeddingConfig(encoder=str(encoders["bert"]), device="cuda"))


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gpt2", "qwen2"])
def test_a_tokenizer_without_its_files_knows_no_word(encoders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Transformers makes one of special tokens alone, whatever the family: all texts would be one."""
    shutil.copytree(encoders[kind], tmp_path / "encoder")
    with pytest.raises(ArtifactError) as caught:
        load_encoder(EmbeddingConfig(encoder=str(broken(tmp_path / "encoder", "no tokenizer"))))
    assert "fix:" in str(caught.value)


def test_a_tokenizer_larger_than_the_embedding_table(encoders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(encoders["bert"], tmp_path / "encoder")
    path = tmp_path / "encoder" / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["model"]["vocab"]["beyond"] = 64
    path.write_text(json.dumps(content), "utf-8")
    encoder = load_encoder(EmbeddingConfig(encoder=str(tmp_path / "encoder")))
    assert encoder.encode(["w1 w2"]).shape == (1, 16)
    with pytest.raises(ArtifactError, match=r"(?s)does not fit its model.*below 64.*got: 64"):
        encoder.encode(["w1", "beyond"])
