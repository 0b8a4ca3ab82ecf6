"""The served hashed words against those of training."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.utils import murmurhash3_32

from lorefuse.embedding.words import hashed_words

PATH = Path(__file__).parents[2] / "serving" / "model_repository" / "embed" / "1" / "words.py"
TEXTS = ["OPI Nail Lacquer, 0.5 oz", "Crème brûlée ÉTÉ", "日本語のテキスト", "a a a b", "?!", ""]


@pytest.fixture(scope="module")
def served() -> ModuleType:
    spec = importlib.util.spec_from_file_location("served_words", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dim", [1, 37, 512])
def test_the_same_bits_as_in_training(served: ModuleType, dim: int) -> None:
    np.testing.assert_array_equal(served.hashed_words(TEXTS, dim), hashed_words(TEXTS, dim))


@pytest.mark.parametrize("length", range(9))
def test_hash_of_every_tail(served: ModuleType, length: int) -> None:
    data = bytes(range(200, 200 + length))
    assert served.murmur3(data) == murmurhash3_32(data, 0)
