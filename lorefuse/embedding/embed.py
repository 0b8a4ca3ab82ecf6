"""Embed a dataset's items, or any texts: the cache first, the encoder for what is left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.atomic import sha256_json, write_json
from lorefuse.core.errors import ConfigError
from lorefuse.core.schema import ITEM_ID
from lorefuse.core.settings import settings
from lorefuse.data.dataset import Dataset
from lorefuse.embedding.cache import EmbeddingCache
from lorefuse.embedding.check import check_finite, check_spread
from lorefuse.embedding.dtype_choice import AUTO, FACTS_FILE, choose, pinned
from lorefuse.embedding.encoder import load_encoder
from lorefuse.embedding.facets import facets_of
from lorefuse.embedding.fingerprint import encoded_space, kept_dim_of, leading, space_of
from lorefuse.embedding.prompt import item_texts
from lorefuse.embedding.provenance import Provenance
from lorefuse.embedding.source import resolve
from lorefuse.embedding.words import hashed_words
from lorefuse.embedding.written import join_knowledge

ARRAYS_FILE = "item_embeddings.safetensors"
CHUNK = 4096
"""Texts encoded between two writes to the cache: the most a killed run has to do again."""


def embed_items(
    dataset: Dataset, config: EmbeddingConfig, out_path: Path, knowledge: Mapping[str, Path] | None = None
) -> dict[str, Any]:
    """Embed every item's text, facet by facet, and write the embeddings folder.

    Args:
        dataset: The dataset; its roles name the text columns where the configuration names no facets.
        config: Encoder, prompts, pooling, facets.
        out_path: Empty folder to fill.
        knowledge: Written knowledge to join, as column name → folder of `enrich.write_item_knowledge`; facets and
            prompts may name these columns like the dataset's own.

    Returns:
        The report of `embed_texts` with the space, its address, dim, num_items and num_without_text; for an
        arithmetic that was chosen here, `choice`, the record of `modes.choose`.

    Raises:
        ConfigError: There is no such prompt, text column, encoder or device.
        ArtifactError: The encoder's folder or the cache cannot be used.
        UnreachableError: The hub does not answer and the model is not cached.
    """
    from safetensors.numpy import save_file

    items = dataset.items()
    for column, path in (knowledge or {}).items():
        items = join_knowledge(items, path, column)
    blocks, masks, reports = [], [], []
    facets = facets_of(config, dataset.roles.item_text)
    no_text = [""] * len(items)
    texts_of = [no_text if f.reviews else item_texts(items, f.columns, f.config.prompt) for f in facets]
    choice = {"choice": choose(config, [text for texts in texts_of for text in texts])} if config.dtype == AUTO else {}
    for facet, texts in zip(facets, texts_of, strict=True):
        vectors, report = embed_texts(texts, facet.config)
        blocks.append(vectors)
        masks.append(np.array([bool(text) for text in texts], dtype=bool))
        reports.append(report)
    full, has_facet = np.hstack(blocks), np.stack(masks, axis=1)
    has_text = np.asarray(has_facet.any(axis=1))
    arrays: dict[str, NDArray[Any]] = {"full": full, "has_text": has_text, "has_facet": has_facet}
    seen = Provenance.read(resolve(config).path)
    if seen is not None:
        arrays["fitted"] = items[ITEM_ID].astype(str).isin(seen.item_ids).to_numpy()
    save_file(arrays, str(out_path / ARRAYS_FILE))
    space = space_of(config)
    facts = {
        "space": space,
        "address": sha256_json(space),
        "dim": full.shape[1],
        "num_items": len(items),
        "num_without_text": int((~has_text).sum()),
        "data_cutoff": seen.data_cutoff if seen else None,
        **choice,
    }
    write_json(out_path / FACTS_FILE, facts)
    return {**facts, **_sum_reports(reports)}


def embed_new_item(text: str | Mapping[str, str], config: EmbeddingConfig) -> NDArray[np.float32]:
    """Embed a brand-new item as `embed_items` would, shape (1, dim).

    Args:
        text: One text, which goes to the first facet; or facet name → text. Facets without a text stay zeros.
        config: The configuration the model was trained with.

    Raises:
        ConfigError: There is no such facet.
    """
    facets = facets_of(config)
    texts = {facets[0].name: text} if isinstance(text, str) else dict(text)
    unknown = sorted(texts.keys() - {facet.name for facet in facets})
    if unknown:
        raise ConfigError(
            f"There is no facet {unknown[0]!r}.", expected=", ".join(facet.name for facet in facets), got=unknown[0]
        )
    blocks = {facet.name: embed_texts([texts[facet.name]], facet.config)[0] for facet in facets if facet.name in texts}
    dim = next(iter(blocks.values())).shape[1] if blocks else space_of(config)["dim"] // len(facets)
    nothing = np.zeros((1, dim), dtype=np.float32)
    return np.hstack([blocks.get(facet.name, nothing) for facet in facets])


def embed_texts(texts: list[str], config: EmbeddingConfig) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Embed any texts, e.g. of a single new item: known ones come from the cache without loading the encoder.

    Args:
        texts: Texts as `prompt.item_texts` makes them.
        config: Encoder, prompt, pooling.

    Returns:
        Vectors (n, dim), float32, hashed words after the encoder's dimensions, zeros for empty texts; and a report:
        num_cached and num_encoded (distinct texts), num_tokens, encode_s, texts_per_s.

    Raises:
        ConfigError: There is no such encoder or device.
        ArtifactError: The encoder's folder or the cache cannot be used, a vector is not finite, or all are the same.
        UnreachableError: The hub does not answer and the model is not cached.
    """
    start_s = time.perf_counter()
    space = encoded_space(config)
    kept_dim = kept_dim_of(config, space["dim"])
    cache = EmbeddingCache(settings().cache_path / "embeddings.sqlite", sha256_json(space), space["dim"])
    distinct = list(dict.fromkeys(text for text in texts if text))
    vectors, found = cache.get(distinct)
    missing = np.flatnonzero(~found)
    num_tokens = encode_missing(distinct, missing, vectors, config, cache) if len(missing) else 0
    check_finite(vectors, config)  # those from the cache as well, whoever filled it
    check_spread(vectors, config)
    position = {text: row for row, text in enumerate(distinct)}
    vectors = leading(vectors, kept_dim, config.normalize)
    if config.word_dim and distinct:  # cheaper than the cache
        vectors = np.hstack([vectors, hashed_words(distinct, config.word_dim)])
    result = np.zeros((len(texts), kept_dim + config.word_dim), dtype=np.float32)
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


def encode_missing(
    texts: list[str],
    rows: NDArray[np.int64],
    vectors: NDArray[np.float32],
    config: EmbeddingConfig,
    cache: EmbeddingCache,
) -> int:
    """Fill `vectors[rows]` and the cache, chunk by chunk, and return the number of tokens.

    Args:
        texts: Distinct texts.
        rows: Which of them are missing.
        vectors: (n, dim) of all texts, filled in place.
        config: The encoder.
        cache: Receives what is encoded.

    Raises:
        ArtifactError: A vector is not finite, or the cache cannot be written.

    Chunks follow the order of the texts, so a killed run goes on with the very batches it still owed: batches of
    other texts would differ in the last bits.
    """
    encoder = load_encoder(pinned(config))
    num_tokens_before = encoder.num_tokens
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        chunk_texts = [texts[row] for row in chunk]
        encoded = encoder.encode(chunk_texts)
        check_finite(encoded, config)
        cache.put(chunk_texts, encoded)
        vectors[chunk] = encoded
    return encoder.num_tokens - num_tokens_before


def _sum_reports(reports: list[dict[str, Any]]) -> dict[str, Any]:
    total = {name: sum(report[name] for report in reports) for name in reports[0]}
    elapsed_s = max(total["encode_s"], 1e-9)
    return total | {"encode_s": round(total["encode_s"], 2), "texts_per_s": round(total["num_texts"] / elapsed_s, 1)}
