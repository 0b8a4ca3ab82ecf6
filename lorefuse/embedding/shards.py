"""Texts encoded shard by shard, side by side, with the vectors of one run to the last bit.

A batch of other texts differs in the last bits, so what is dealt out are not texts but the chunks that one run would
encode. A chunk belongs to the shard in whose range the hash of its content falls: every shard finds its own chunks
without asking the others, and new texts at the end move none of the old ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.atomic import sha256_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.settings import settings
from lorefuse.data.dataset import Dataset
from lorefuse.embedding.cache import EmbeddingCache
from lorefuse.embedding.embed import CHUNK, encode_missing
from lorefuse.embedding.facets import facets_of
from lorefuse.embedding.fingerprint import encoded_space
from lorefuse.embedding.prompt import item_texts
from lorefuse.embedding.written import join_knowledge

PART_FILE = "part.safetensors"
_HASH_BITS = 32


def shard_of(texts: Sequence[str], num_shards: int) -> int:
    """Return the shard of a chunk: hashes are divided into as many equal ranges.

    Example:
        >>> shard_of(["a text"], 1), 0 <= shard_of(["a text"], 3) < 3
        (0, True)
    """
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[: _HASH_BITS // 8], "big") * num_shards >> _HASH_BITS


def embed_shard(
    dataset: Dataset,
    config: EmbeddingConfig,
    shard: int,
    out_path: Path,
    knowledge: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Encode the items' texts of one shard into the shared cache, and write them as a part.

    Args:
        dataset: The dataset.
        config: Encoder, prompts, facets and `num_shards`.
        shard: Which shard, from 0.
        out_path: Empty folder to fill.
        knowledge: Written knowledge, as for `embed.embed_items`.

    Returns:
        num_texts of the shard, num_cached and num_encoded.

    Raises:
        ConfigError: There is no such prompt, text column, encoder or device.
        ArtifactError: The encoder's folder or the cache cannot be used.
    """
    from safetensors.numpy import save_file

    items = dataset.items()
    for column, path in (knowledge or {}).items():
        items = join_knowledge(items, path, column)
    addresses, blocks, num_cached = [], [], 0
    for facet in facets_of(config, dataset.roles.item_text):
        texts = [] if facet.reviews else item_texts(items, facet.columns, facet.config.prompt)
        distinct = list(dict.fromkeys(text for text in texts if text))
        cache = _cache(facet.config)
        for start in range(0, len(distinct), CHUNK):
            chunk = distinct[start : start + CHUNK]
            if shard_of(chunk, config.num_shards) != shard:
                continue
            vectors, found = cache.get(chunk)
            if not found.all():
                encode_missing(chunk, np.flatnonzero(~found), vectors, facet.config, cache)
            num_cached += int(found.sum())
            addresses += [np.frombuffer(cache.address(text), dtype=np.uint8) for text in chunk]
            blocks.append(vectors)
    dim = encoded_space(config)["dim"]
    part: dict[str, NDArray[Any]] = {
        "addresses": np.stack(addresses) if addresses else np.zeros((0, 32), np.uint8),
        "vectors": np.concatenate(blocks) if blocks else np.zeros((0, dim), np.float32),
    }
    save_file(part, str(out_path / PART_FILE))
    return {"num_texts": len(addresses), "num_cached": num_cached, "num_encoded": len(addresses) - num_cached}


def adopt_parts(paths: Sequence[Path], config: EmbeddingConfig) -> int:
    """Bring the parts of all shards into this machine's cache, where they are not there; return how many vectors.

    Raises:
        ArtifactError: A part is missing or cut short.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    total, cache = 0, _cache(config)
    for path in paths:
        try:
            part = load_file(str(path / PART_FILE))
            cache.put_addressed([address.tobytes() for address in part["addresses"]], part["vectors"])
        except (OSError, KeyError, SafetensorError) as error:
            raise ArtifactError(f"{path} holds no part of the embeddings.", got=str(error), fix="run again") from None
        total += len(part["vectors"])
    return total


def _cache(config: EmbeddingConfig) -> EmbeddingCache:
    space = encoded_space(config)
    return EmbeddingCache(settings().cache_path / "embeddings.sqlite", sha256_json(space), space["dim"])
