"""Hashed words: what they keep, what they ignore, and where they stand in an item's vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.config import EmbeddingConfig
from lorefuse.embedding.embed import embed_new_item, embed_texts
from lorefuse.embedding.fingerprint import space_of
from lorefuse.embedding.words import hashed_words


def test_a_shared_brand_shows() -> None:
    one, brand, other = hashed_words(["OPI Euro Centrale nail lacquer", "OPI Lincoln Park", "argan hair oil"], 4096)
    assert one @ brand == pytest.approx(1 / np.sqrt(5 * 3), abs=1e-6)
    assert one @ other == 0


def test_case_order_and_punctuation_do_not_count() -> None:
    one, same = hashed_words(["Crème, brûlée 30ml", "30ML brûlée crème!"], 256)
    np.testing.assert_array_equal(one, same)


def test_unit_length_and_zeros_without_words() -> None:
    vectors = hashed_words(["a a a b", "?!", ""], 64)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_they_follow_the_encoders_vector(encoders: dict[str, Path]) -> None:
    plain = EmbeddingConfig(encoder=str(encoders["bert"]))
    words = plain.model_copy(update={"word_dim": 32})
    texts = ["w1 w2", "", "w3"]
    without, _ = embed_texts(texts, plain)
    vectors, report = embed_texts(texts, words)
    np.testing.assert_array_equal(vectors[:, :-32], without)
    np.testing.assert_array_equal(vectors[:, -32:], hashed_words(texts, 32))
    assert report["num_cached"] == 2  # the words are no part of the cache's address
    assert space_of(words)["dim"] == vectors.shape[1]
    assert space_of(words) != space_of(plain)


def test_a_facet_that_a_new_item_lacks_is_as_wide(encoders: dict[str, Path]) -> None:
    encoder = str(encoders["bert"])
    config = EmbeddingConfig(encoder=encoder, word_dim=16, facets={"name": ["title"], "about": ["categories"]})
    vector = embed_new_item({"about": "w4 w5"}, config)
    assert vector.shape == (1, space_of(config)["dim"])
    assert not vector[0, : vector.shape[1] // 2].any()
