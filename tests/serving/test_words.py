"""The served hashed words against those of training."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from lorefuse.embedding.words import hashed_words
from tests.helpers.module_file import served_module

TEXTS = ["OPI Nail Lacquer, 0.5 oz", "Crème brûlée ÉTÉ", "日本語のテキスト", "a a a b", "?!", ""]


@pytest.fixture(scope="module")
def served() -> ModuleType:
    return served_module("embed", "words")


@pytest.mark.parametrize("dim", [1, 37, 512])
def test_the_same_bits_as_in_training(served: ModuleType, dim: int) -> None:
    np.testing.assert_array_equal(served.hashed_words(TEXTS, dim), hashed_words(TEXTS, dim))
