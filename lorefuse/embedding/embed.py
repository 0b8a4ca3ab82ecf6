"""Embed a dataset's items, or any texts: the cache first, the encoder for what is left."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.atomic import sha256_json, write_json
from lorefuse.config import EmbeddingConfig
from lorefuse.data.dataset import Dataset
from lorefuse.embedding.cache import EmbeddingCache
from lorefuse.embedding.encoder import load_encoder
from lorefuse.embedding.prompt import item_texts
from lorefuse.embedding.source import EncoderSource, resolve
from lorefuse.errors import ArtifactError
from lorefuse.settings import settings

ARRAYS_FILE, FACTS_FILE = "item_embeddings.safetensors", "embedding.json"
_ADDRESS_FIELDS = ("encoder", "prompt", "pooling", "max_tokens", "dtype")
_CHUNK = 4096
"""Texts encoded between two writes to the cache: the most a killed run has to do again."""


def space_of(config: EmbeddingConfig) -> dict[str, Any]:
    """Return everything but the text that decides a vector; two vectors of one space may be compared.

    A local folder is known by its content alone, so that a moved folder keeps its vectors.

    Raises:
        ConfigError: There is no such encoder.
        ArtifactError: The encoder's folder is not whole.
        UnreachableError: The hub does not answer and the model is not cached.
    """
    source = resolve(config)
    facts = config.model_dump(include=set(_ADDRESS_FIELDS))
    return {**facts, "encoder": source.name, "revision": source.revision, "dim": _dim_of(source, config)}


def embed_items(dataset: Dataset, config: EmbeddingConfig, out_path: Path) -> dict[str, Any]:
    """Embed every item's text and write the embeddings folder.

    Args:
        dataset: The dataset; its roles name the text columns.
        config: Encoder, prompt, pooling.
        out_path: Empty folder to fill.

    Returns:
        The report of `embed_texts` with the space, its address, dim, num_items and num_without_text.

    Raises:
        ConfigError: There is no such prompt, text column, encoder or device.
        ArtifactError: The encoder's folder or the cache cannot be used.
        UnreachableError: The hub does not answer and the model is not cached.
    """
    from safetensors.numpy import save_file

    texts = item_texts(dataset.items(), dataset.roles.item_text, config.prompt)
    vectors, report = embed_texts(texts, config)
    has_text = np.array([bool(text) for text in texts])
    save_file({"full": vectors, "has_text": has_text}, str(out_path / ARRAYS_FILE))
    space = space_of(config)
    facts = {
        "space": space,
        "address": sha256_json(space),
        "dim": vectors.shape[1],
        "num_items": len(texts),
        "num_without_text": int((~has_text).sum()),
    }
    write_json(out_path / FACTS_FILE, facts)
    return {**facts, **report}


def embed_texts(texts: list[str], config: EmbeddingConfig) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Embed any texts, e.g. of a single new item: known ones come from the cache without loading the encoder.

    Args:
        texts: Texts as `prompt.item_texts` makes them.
        config: Encoder, prompt, pooling.

    Returns:
        Unit vectors (n, dim), float32, zeros for empty texts; and a report: num_cached and num_encoded (distinct
        texts), num_tokens, encode_s, texts_per_s.

    Raises:
        ConfigError: There is no such encoder or device.
        ArtifactError: The encoder's folder or the cache cannot be used, or a vector is not finite.
        UnreachableError: The hub does not answer and the model is not cached.
    """
    start_s = time.perf_counter()
    space = space_of(config)
    cache = EmbeddingCache(settings().cache_path / "embeddings.sqlite", sha256_json(space), space["dim"])
    distinct = list(dict.fromkeys(text for text in texts if text))
    vectors, found = cache.get(distinct)
    missing = np.flatnonzero(~found)
    num_tokens = _encode_missing(distinct, missing, vectors, config, cache) if len(missing) else 0
    position = {text: row for row, text in enumerate(distinct)}
    result = np.zeros((len(texts), space["dim"]), dtype=np.float32)
    filled = [row for row, text in enumerate(texts) if text]
    result[filled] = vectors[[position[texts[row]] for row in filled]]
    elapsed_s = time.perf_counter() - start_s
    report = {
        "num_texts": len(texts),
        "num_cached": int(found.sum()),
        "num_encoded": len(missing),
        "num_tokens": num_tokens,
        "encode_s": round(elapsed_s, 2),
        "texts_per_s": round(len(texts) / elapsed_s, 1),
    }
    return result, report


def _encode_missing(
    texts: list[str],
    rows: NDArray[np.int64],
    vectors: NDArray[np.float32],
    config: EmbeddingConfig,
    cache: EmbeddingCache,
) -> int:
    """Fill `vectors[rows]`, chunk by chunk, and return the number of tokens.

    Chunks follow the order of the texts, so a killed run goes on with the very batches it still owed: batches of
    other texts would differ in the last bits.
    """
    encoder = load_encoder(config)
    num_tokens_before = encoder.num_tokens
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        chunk_texts = [texts[row] for row in chunk]
        encoded = encoder.encode(chunk_texts)
        if not np.isfinite(encoded).all():
            raise ArtifactError("The encoder gave vectors that are not finite.", fix="set embedding.dtype: float32")
        cache.put(chunk_texts, encoded)
        vectors[chunk] = encoded
    return encoder.num_tokens - num_tokens_before


def _dim_of(source: EncoderSource, config: EmbeddingConfig) -> int:
    """Read the width from the encoder's config.json, loading its weights only where it stands under another name."""
    try:
        facts = json.loads((source.path / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{source.path} is not a whole encoder.", expected="a readable config.json", got=str(error)
        ) from None
    dim = facts.get("hidden_size") if isinstance(facts, dict) else None
    return dim if isinstance(dim, int) else load_encoder(config).dim
