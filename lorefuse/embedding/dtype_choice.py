"""The encoder's arithmetic, chosen by measuring it on the user's own texts (`embedding.dtype: auto`).

float32 is the yardstick. Another arithmetic is taken where it is faster on this machine and keeps the neighbours that
float32 finds. The choice is made once for an encoder and kept beside the cache of vectors: whatever shares that cache
computes alike, and the address of a vector names the arithmetic that made it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.atomic import sha256_json, write_json
from lorefuse.core.errors import ConfigError
from lorefuse.core.settings import settings
from lorefuse.embedding.encoder import TextEncoder, load_encoder
from lorefuse.embedding.source import resolve

AUTO, YARDSTICK = "auto", "float32"
FACTS_FILE = "embedding.json"
"""Facts of an embeddings folder."""
CANDIDATES = ("bfloat16",)
MIN_SPEEDUP, MIN_OVERLAP, MIN_COSINE = 1.1, 0.98, 0.999
NUM_NEIGHBOURS = 10
MIN_TEXTS, MAX_TEXTS = 100, 1000
"""Texts whose neighbours are compared; with fewer distinct texts nothing can be said, and float32 stays."""
_ROUNDS, _TIMED_TOKENS = 3, 1024
_log = logging.getLogger(__name__)


def pinned(config: EmbeddingConfig, embeddings_path: Path | None = None) -> EmbeddingConfig:
    """Return the configuration with the arithmetic that is in use in place of ``auto``.

    Args:
        config: Any; one that names its arithmetic is returned as it is.
        embeddings_path: Embeddings that the vectors must go with; None: what was chosen here.

    Raises:
        ConfigError: Nothing was chosen there or here.
    """
    if config.dtype != AUTO:
        return config
    path = _record_path(config) if embeddings_path is None else embeddings_path / FACTS_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        return config.model_copy(update={"dtype": content.get("choice", content)["dtype"]})
    except (OSError, ValueError, KeyError):
        raise ConfigError(
            "embedding.dtype is auto, and no arithmetic of the encoder has been chosen here.",
            expected=f"{path}, written by the embed step",
            got="no choice in it" if path.exists() else "no such file",
            fix="let the embed step run first and share LOREFUSE_HOME, or set embedding.dtype to what it has chosen",
        ) from None


def choose(config: EmbeddingConfig, texts: Sequence[str]) -> dict[str, Any]:
    """Return the record of the choice for an encoder, measuring on texts where there is none yet.

    Args:
        config: The encoder.
        texts: The user's own; a sample of the distinct ones is encoded.

    Returns:
        dtype, num_texts of the sample and, by arithmetic, what was measured: speedup over float32 and, where that is
        enough, the smallest and mean cosine with float32's vectors and the overlap of the ten nearest neighbours.

    Raises:
        ConfigError: There is no such encoder or device.
        ArtifactError: The encoder's folder is not whole.
    """
    path = _record_path(config)
    if path.is_file():
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return record
    distinct = list(dict.fromkeys(text for text in texts if text))
    sample = distinct[:: -(-len(distinct) // MAX_TEXTS)] if distinct else []
    measured = _measure(config, sample) if len(sample) >= MIN_TEXTS else {}
    passed = {dtype: figures["speedup"] for dtype, figures in measured.items() if _passes(figures)}
    chosen = max(passed, key=lambda dtype: passed[dtype], default=YARDSTICK)
    record = {"dtype": chosen, "num_texts": len(sample), "measured": measured}
    _log.info("embedding.dtype: %s, measured on %d texts: %s", chosen, len(sample), measured or "too few texts")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    return record


def overlap(first: NDArray[np.float32], second: NDArray[np.float32], num_neighbours: int) -> float:
    """Return the mean share of a row's nearest rows, by dot product, that two sets of vectors (n, dim) agree on.

    Example:
        >>> vectors = np.eye(4, dtype=np.float32) + np.arange(4, dtype=np.float32)
        >>> overlap(vectors, 2 * vectors, 2)
        1.0
    """
    nearest = []
    for vectors in (first, second):
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, -np.inf)
        nearest.append(np.argpartition(-similarity, num_neighbours - 1, axis=1)[:, :num_neighbours])
    shared = [len(set(one) & set(other)) for one, other in zip(*map(np.ndarray.tolist, nearest), strict=True)]
    return float(np.mean(shared)) / num_neighbours


def _measure(config: EmbeddingConfig, sample: list[str]) -> dict[str, dict[str, float]]:
    yardstick = load_encoder(config.model_copy(update={"dtype": YARDSTICK}))
    timed = _about(yardstick, sample, _TIMED_TOKENS)
    vectors: NDArray[np.float32] | None = None
    measured: dict[str, dict[str, float]] = {}
    for dtype in CANDIDATES:
        candidate = load_encoder(config.model_copy(update={"dtype": dtype}))
        figures = measured[dtype] = {"speedup": round(_speedup(candidate, yardstick, timed), 2)}
        if figures["speedup"] < MIN_SPEEDUP:
            continue
        vectors = yardstick.encode(sample) if vectors is None else vectors
        others = candidate.encode(sample)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(others, axis=1)
        cosine = (vectors * others).sum(1) / np.maximum(lengths, 1e-12)
        figures |= {"min_cosine": round(float(cosine.min()), 5), "mean_cosine": round(float(cosine.mean()), 5)}
        figures["overlap"] = round(overlap(vectors, others, NUM_NEIGHBOURS), 4)
    return measured


def _speedup(candidate: TextEncoder, yardstick: TextEncoder, texts: list[str]) -> float:
    """Median over rounds, in which both take turns; what is hopeless is not measured again."""
    ratios: list[float] = []
    for encoder in (candidate, yardstick):
        encoder.encode(texts[:1])
    for _ in range(_ROUNDS):
        seconds = []
        for encoder in (yardstick, candidate):
            start_s = time.perf_counter()
            encoder.encode(texts)
            seconds.append(time.perf_counter() - start_s)
        ratios.append(seconds[0] / seconds[1])
        if ratios[-1] < MIN_SPEEDUP / 2:
            break
    return median(ratios)


def _about(encoder: TextEncoder, texts: list[str], num_tokens: int) -> list[str]:
    """Return evenly spread texts of about so many tokens together, at least one."""
    total = sum(map(len, encoder.tokenize(texts)))
    return texts[:: max(1, total // num_tokens)]


def _passes(figures: dict[str, float]) -> bool:
    near = figures.get("overlap", 0.0) >= MIN_OVERLAP and figures.get("mean_cosine", 0.0) >= MIN_COSINE
    return near and figures["speedup"] >= MIN_SPEEDUP


def _record_path(config: EmbeddingConfig) -> Path:
    source = resolve(config)
    facts = [source.name, source.revision, config.pooling, config.max_tokens, config.instruction, config.device]
    return settings().cache_path / "encoder_modes" / f"{sha256_json(facts)[:24]}.json"
