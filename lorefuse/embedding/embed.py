"""Embed a dataset's items, or any texts: the cache first, the encoder for what is left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.atomic import sha256_json, write_json
from lorefuse.config import EmbeddingConfig
from lorefuse.data.dataset import Dataset
from lorefuse.embedding.cache import EmbeddingCache
from lorefuse.embedding.encoder import load_encoder, revision_of, source_path
from lorefuse.embedding.prompt import item_texts
from lorefuse.errors import ArtifactError
from lorefuse.settings import settings

ARRAYS_FILE, FACTS_FILE = "item_embeddings.safetensors", "embedding.json"
_ADDRESS_FIELDS = ("encoder", "prompt", "pooling", "max_tokens", "dtype")


def space_of(config: EmbeddingConfig) -> dict[str, Any]:
    """Return everything but the text that decides a vector; two vectors of one space may be compared.

    A local folder is known by its weights alone, so that a moved folder keeps its vectors.
    """
    facts = config.model_dump(include=set(_ADDRESS_FIELDS))
    if Path(source_path(config)).is_dir():
        facts["encoder"] = Path(source_path(config)).name
    return {**facts, "revision": revision_of(config)}


def embed_items(dataset: Dataset, config: EmbeddingConfig, out_path: Path) -> dict[str, Any]:
    """Embed every item's text and write the embeddings folder.

    Args:
        dataset: The dataset; its roles name the text columns.
        config: Encoder, prompt, pooling.
        out_path: Empty folder to fill.

    Returns:
        Counts of texts, of those found in the cache and of those encoded, seconds, dim and the space.
    """
    from safetensors.numpy import save_file

    texts = item_texts(dataset.items(), dataset.roles.item_text, config.prompt)
    vectors, report = embed_texts(texts, config)
    has_text = np.array([bool(text) for text in texts])
    save_file({"full": vectors, "has_text": has_text}, str(out_path / ARRAYS_FILE))
    space = space_of(config)
    facts = {"space": space, "address": sha256_json(space), "dim": vectors.shape[1], "num_items": len(texts)}
    write_json(out_path / FACTS_FILE, {**facts, "num_without_text": int((~has_text).sum())})
    return {**facts, **report}


def embed_texts(texts: list[str], config: EmbeddingConfig) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return unit vectors (n, dim) of any texts, zeros for empty ones, and a report of the work done."""
    start_s = time.perf_counter()
    dim = _dim_of(config)
    cache = EmbeddingCache(settings().cache_path / "embeddings.sqlite", sha256_json(space_of(config)), dim)
    vectors, found = cache.get(texts)
    missing = [row for row, text in enumerate(texts) if text and not found[row]]
    distinct = list(dict.fromkeys(texts[row] for row in missing))
    if distinct:
        encoded = load_encoder(config).encode(distinct)
        if not np.isfinite(encoded).all():
            raise ArtifactError("The encoder gave vectors that are not finite.", fix="set embedding.dtype: float32")
        cache.put(distinct, encoded)
        position = {text: row for row, text in enumerate(distinct)}
        vectors[missing] = encoded[[position[texts[row]] for row in missing]]
    report = {
        "num_cached": int(found.sum()),
        "num_encoded": len(distinct),
        "encode_s": round(time.perf_counter() - start_s, 2),
    }
    return vectors, report


def _dim_of(config: EmbeddingConfig) -> int:
    """Read the width from the encoder's config, without loading its weights."""
    import json

    path = Path(source_path(config)) / "config.json"
    if path.is_file():
        facts = json.loads(path.read_text("utf-8"))
        if "hidden_size" in facts:
            return int(facts["hidden_size"])
    return load_encoder(config).dim
