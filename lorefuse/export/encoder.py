"""The text encoder as one ONNX graph beside its tokenizer's file: what turns words into vectors without torch.

Suffixes: ``B`` texts, ``T`` tokens, ``H`` width of a vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorefuse.core.atomic import atomic_folder, sha256_json, write_json
from lorefuse.core.errors import ArtifactError, ConfigError
from lorefuse.core.settings import settings
from lorefuse.export.templates import link_or_copy

if TYPE_CHECKING:
    from lorefuse.config import EmbeddingConfig
    from lorefuse.embedding.encoder import TextEncoder

ENCODER_FILE, TOKENIZER_FILE, FACTS_FILE = "encoder.onnx", "tokenizer.json", "encoder.json"
FILES = (ENCODER_FILE, TOKENIZER_FILE, FACTS_FILE)
TOLERANCE = 1e-4
"""Largest cosine distance from torch's vector."""
_FORMAT = 1
_CHECKED = ("film", "A longer text, with more words than the first: about a heist, a train, and what came after.")


def export_encoder(config: EmbeddingConfig, out_path: Path) -> None:
    """Write encoder, tokenizer and their facts into a folder; one export serves every bundle of the same encoder.

    Args:
        config: Encoder, pooling, lengths, facets.
        out_path: Folder to fill.

    Raises:
        ConfigError: There is no such encoder, or its tokenizer has no `tokenizer.json`.
        ArtifactError: The graph gives other vectors than torch.
    """
    from lorefuse.embedding.fingerprint import encoded_space

    space = encoded_space(config)
    address = sha256_json([_FORMAT, space])
    cached_path = settings().cache_path / "encoders" / address[:24]
    if not all((cached_path / name).is_file() for name in FILES):
        with atomic_folder(cached_path) as draft_path:
            _export(config, draft_path)
    for name in FILES:
        link_or_copy(cached_path / name, out_path / name)


def _export(config: EmbeddingConfig, out_path: Path) -> None:
    from lorefuse.embedding.encoder import load_encoder

    # Arithmetic on the CPU, as served.
    encoder = load_encoder(config.model_copy(update={"device": "cpu", "facets": ()}), plain=True)
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(
            f"The tokenizer of {config.encoder} cannot be served.",
            expected="a fast tokenizer, which has a tokenizer.json",
            fix="set serving.embed: false",
        )
    (out_path / TOKENIZER_FILE).write_text(backend.to_str(), "utf-8")
    end_id = encoder.tokenizer.eos_token_id if config.append_eos else None
    facts = {
        "instruction": config.instruction,
        "max_tokens": encoder.max_tokens - (end_id is not None),
        "truncation_side": encoder.tokenizer.truncation_side,
        "end_id": end_id,
        "pad_id": int(encoder.pad([[0], [0, 0]])[0][0, 1]),
        "dim": encoder.dim,
    }
    write_json(out_path / FACTS_FILE, facts)
    _write_graph(encoder, out_path / ENCODER_FILE)
    _check(encoder, out_path / ENCODER_FILE)


def _write_graph(encoder: TextEncoder, path: Path) -> None:
    import torch

    from lorefuse.embedding.pooling import pool
    from lorefuse.export.onnx import export_module

    class EncoderGraph(torch.nn.Module):
        """Tokens and mask, int64 (B, T) → vectors, float32 (B, H)."""

        def __init__(self) -> None:
            super().__init__()
            self.model = encoder.model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            tokens_BT, mask_BT = inputs
            hidden_BTH = self.model(input_ids=tokens_BT, attention_mask=mask_BT).last_hidden_state
            return pool(hidden_BTH, mask_BT, encoder.config.pooling, encoder.config.normalize)

    tokens, mask = (torch.from_numpy(array) for array in encoder.pad(encoder.tokenize(list(_CHECKED))))
    width = torch.export.Dim("tokens", min=1, max=encoder.max_tokens)
    example = {"tokens": tokens, "mask": mask}
    export_module(EncoderGraph(), example, ["tokens", "mask"], ["vector"], path, dict.fromkeys(example, width))


def _check(encoder: TextEncoder, path: Path) -> None:
    import numpy as np

    from lorefuse.export.session import open_session

    session = open_session(path)
    for texts in ([_CHECKED[0]], list(_CHECKED)):
        tokens, mask = encoder.pad(encoder.tokenize(texts))
        got = session.run(None, {"tokens": tokens, "mask": mask})[0]
        expected = encoder.encode(texts)
        lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
        distance = float((1 - (got * expected).sum(1) / np.maximum(lengths, 1e-12)).max())
        if not distance <= TOLERANCE:
            raise ArtifactError(
                "The exported encoder gives other vectors than torch.",
                expected=f"a cosine distance of at most {TOLERANCE:g}",
                got=f"{distance:.3g}",
                fix="set serving.embed: false",
            )
