"""What decides a vector beside its text, and how many of its dimensions are kept."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ArtifactError, ConfigError
from lorefuse.embedding.dtype_choice import pinned
from lorefuse.embedding.encoder import load_encoder
from lorefuse.embedding.facets import facets_of
from lorefuse.embedding.source import EncoderSource, resolve

_ADDRESS_FIELDS = ("encoder", "prompt", "pooling", "max_tokens", "dtype")
_LATER_ADDRESS_FIELDS = ("instruction", "append_eos", "normalize")
"""In an address only where they are set, so that vectors from before they existed keep theirs."""


def space_of(config: EmbeddingConfig) -> dict[str, Any]:
    """Return everything but the text that decides a vector; two vectors of one space may be compared.

    A local folder is known by its content alone, so that a moved folder keeps its vectors.

    Raises:
        ConfigError: There is no such encoder, or it has fewer dimensions than are to be kept.
        ArtifactError: The encoder's folder is not whole.
        UnreachableError: The hub does not answer and the model is not cached.
    """
    space = encoded_space(config)
    if config.truncate_dim is not None:
        space |= {"truncate_dim": config.truncate_dim, "dim": kept_dim_of(config, space["dim"])}
    if config.word_dim:
        space |= {"word_dim": config.word_dim, "dim": space["dim"] + config.word_dim}
    if config.facets:
        facets = [[facet.name, list(facet.columns), facet.config.prompt] for facet in facets_of(config)]
        space |= {"facets": facets, "dim": len(facets) * space["dim"]}
    return space


def encoded_space(config: EmbeddingConfig) -> dict[str, Any]:
    """Return the space of what the encoder gives and the cache holds: all dimensions of one facet.

    Raises:
        ConfigError: ``embedding.dtype`` is auto, and nothing was measured here.
    """
    config = pinned(config)
    source = resolve(config)
    facts = config.model_dump(include=set(_ADDRESS_FIELDS))
    later = {
        name: value
        for name in _LATER_ADDRESS_FIELDS
        if (value := getattr(config, name)) != type(config).model_fields[name].default
    }
    dim = _dim_of(source, config)
    return {**facts, **later, "encoder": source.name, "revision": source.revision, "dim": dim}


def kept_dim_of(config: EmbeddingConfig, dim: int) -> int:
    """Return how many of the encoder's `dim` dimensions are kept.

    Raises:
        ConfigError: There are not as many.
    """
    kept = config.truncate_dim or dim
    if kept > dim:
        raise ConfigError(
            "embedding.truncate_dim is wider than the encoder.",
            expected=f"at most {dim}",
            got=str(kept),
            fix=f"set it to {dim} or less, or to null",
        )
    return kept


def leading(vectors: NDArray[np.float32], dim: int, normalize: bool) -> NDArray[np.float32]:
    """Keep the leading dimensions, to unit length again: what Matryoshka encoders are trained for (arXiv:2205.13147).

    The cache holds all of them, so that every width comes from one encoding.
    """
    if dim == vectors.shape[1]:
        return vectors
    kept = vectors[:, :dim]
    if not normalize:
        return kept
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(kept, lengths, out=np.zeros_like(kept), where=lengths > 0)
    return unit


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
