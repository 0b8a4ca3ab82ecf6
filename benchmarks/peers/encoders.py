"""What others encode texts with, on the weights that ours uses: from texts and a batch size to a run."""

from __future__ import annotations

import atexit
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peers.environment import FOLDER, PeerUnavailableError, peer_python
from peers.process import Process

from lorefuse.config import EmbeddingConfig
from lorefuse.embedding.encoder import TextEncoder, load_encoder
from lorefuse.embedding.source import resolve

BATCH_SIZES = (16, 32, 64, 128)
FASTEMBED_BATCH_SIZE = 256
"""What fastembed takes unless told."""
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """What some texts took.

    Attributes:
        wall_s: Seconds.
        cpu_s: CPU seconds of the process that encoded, all its threads.
        vectors: float32 (n, dim), of length 1.
    """

    wall_s: float
    cpu_s: float
    vectors: Vectors


@dataclass(frozen=True)
class Peer:
    """A way to encode texts.

    Attributes:
        encode: Texts and a batch size → a run.
        batch_sizes: What to choose from; the fastest is taken.
        dtype: Arithmetic that it is compared in; None: with all of ours.
    """

    encode: Callable[[list[str], int], Run]
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    dtype: str | None = None


def timed(work: Callable[[], Vectors]) -> Run:
    """Run some work in this process."""
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    vectors = work()
    return Run(time.perf_counter() - start_s, time.process_time() - cpu_start_s, vectors)


def sentence_transformers(config: EmbeddingConfig, max_tokens: int, *, dtype: str | None = None) -> dict[str, Peer]:
    """Return sentence-transformers' `encode`; nothing where it is not installed."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        print("sentence-transformers: SKIPPED, not installed (pip install sentence-transformers)")
        return {}
    options = {} if dtype is None else {"model_kwargs": {"dtype": dtype}}
    model = SentenceTransformer(str(resolve(config).path), device="cpu", **options)
    model.max_seq_length = max_tokens

    def encode(texts: list[str], batch_size: int) -> Vectors:
        found: Vectors = model.encode(texts, batch_size=batch_size, show_progress_bar=False, normalize_embeddings=True)
        return found.astype(np.float32)

    name = "sentence-transformers" if dtype is None else f"sentence-transformers in {dtype}"
    return {name: Peer(lambda texts, size: timed(lambda: encode(texts, size)), dtype=dtype)}


def plain_onnx(config: EmbeddingConfig, folder_path: Path) -> dict[str, Peer]:
    """Return an onnxruntime run over batches in the order given, each padded to its longest text."""
    import onnxruntime

    from lorefuse.export.encoder import ENCODER_FILE, export_encoder

    graph_path = folder_path / "graph"
    graph_path.mkdir()
    export_encoder(config, graph_path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.num_threads
    session = onnxruntime.InferenceSession(str(graph_path / ENCODER_FILE), options, ["CPUExecutionProvider"])
    encoder = load_encoder(config)

    def encode(texts: list[str], batch_size: int) -> Vectors:
        blocks = []
        for start in range(0, len(texts), batch_size):
            tokens, mask = encoder.pad(encoder.tokenize(texts[start : start + batch_size]))
            blocks.append(session.run(None, {"tokens": tokens, "mask": mask})[0])
        return np.concatenate(blocks)

    return {"plain ONNX": Peer(lambda texts, size: timed(lambda: encode(texts, size)))}


def fastembed(config: EmbeddingConfig, max_tokens: int, folder_path: Path) -> dict[str, Peer]:
    """Return fastembed as it comes, in an environment of its own; at its best batch size it is the plain run."""
    try:
        python_path = peer_python("fastembed")
    except PeerUnavailableError as error:
        print(f"fastembed: SKIPPED, {error}")
        return {}
    model_path = folder_path / "fastembed"
    model_path.mkdir()
    encoder = load_encoder(config.model_copy(update={"device": "cpu"}), plain=True)
    _write_hidden_graph(encoder, model_path / "model.onnx")
    encoder.tokenizer.save_pretrained(model_path)
    settings_path = model_path / "tokenizer_config.json"
    settings = json.loads(settings_path.read_text("utf-8"))
    settings_path.write_text(json.dumps(settings | {"model_max_length": max_tokens, "max_length": max_tokens}), "utf-8")
    command = [str(python_path), str(FOLDER / "fastembed_runner.py")]
    process = Process("fastembed", [*command, str(model_path), str(encoder.dim), str(config.num_threads)])
    atexit.register(process.close)
    texts_path, out_path = process.scratch_path / "texts.json", process.scratch_path / "vectors.npy"

    def encode(texts: list[str], batch_size: int) -> Run:
        texts_path.write_text(json.dumps(texts), "utf-8")
        took = process.ask(texts=str(texts_path), out=str(out_path), batch_size=batch_size)
        return Run(took["wall_s"], took["cpu_s"], np.load(out_path, allow_pickle=False))

    return {"fastembed": Peer(encode, (FASTEMBED_BATCH_SIZE,))}


def _write_hidden_graph(encoder: TextEncoder, path: Path) -> None:
    """Write the graph that hubs hold: the last hidden states of tokens; fastembed pools them."""
    import torch

    from lorefuse.export.onnx import export_module

    class HiddenGraph(torch.nn.Module):
        """Tokens and mask, int64 (B, T) → hidden states, float32 (B, T, H)."""

        def __init__(self) -> None:
            super().__init__()
            self.model = encoder.model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            tokens_BT, mask_BT = inputs
            return self.model(input_ids=tokens_BT, attention_mask=mask_BT).last_hidden_state

    pair = encoder.pad(encoder.tokenize(["film", "a longer text, with more words"]))
    names = ["input_ids", "attention_mask"]
    example = dict(zip(names, (torch.from_numpy(array) for array in pair), strict=True))
    width = torch.export.Dim("tokens", min=1, max=encoder.max_tokens)
    export_module(HiddenGraph(), example, names, ["last_hidden_state"], path, dict.fromkeys(names, width))
