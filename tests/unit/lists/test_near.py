"""The nearest vectors, by all cosines and by an index."""

from __future__ import annotations

import numpy as np
import pytest

from lorefuse.lists import near
from lorefuse.lists.near import nearest_vectors
from lorefuse.retrieval.content import unit_rows


def vectors(num_vectors: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 8))
    found = centres[rng.integers(0, 20, num_vectors)] + 0.5 * rng.standard_normal((num_vectors, 8))
    found[3] = 0
    return unit_rows(found.astype(np.float32))


def test_the_largest_positive_cosines_are_kept_and_none_with_itself() -> None:
    unit = vectors(60)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, 0)
    got = nearest_vectors(unit, unit, 5, 2, among_themselves=True).toarray()
    for row, values in zip(got, cosine, strict=True):
        expected = np.sort(np.maximum(values, 0))[::-1][:5] ** 2
        np.testing.assert_allclose(np.sort(row)[::-1][:5], expected, atol=1e-6)
        assert (row > 0).sum() == (expected > 0).sum()
    assert not got[3].any()
    assert not got[:, 3].any()


def test_an_index_finds_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = vectors(3000)
    exact = nearest_vectors(unit, unit, 10, 1, among_themselves=True).toarray()
    monkeypatch.setattr(near, "MAX_EXACT_VECTORS", 100)
    found = nearest_vectors(unit, unit, 10, 1, among_themselves=True).toarray()
    assert not np.diag(found).any()
    both = ((exact > 0) & (found > 0)).sum() / (exact > 0).sum()
    assert both >= near.MIN_RECALL - 0.03
    shared = (exact > 0) & (found > 0)
    np.testing.assert_allclose(found[shared], exact[shared], atol=2e-3)
