"""The reducer: fitted on train rows alone, standardised, deterministic, honest about rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.embedding.reduce import REDUCER_FILE, Reducer, fit_reducer
from lorefuse.errors import ArtifactError, ConfigError


def low_rank(num_rows: int = 60, dim: int = 12, rank: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num_rows, rank)) @ rng.normal(size=(rank, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_by_hand() -> None:
    """Points on the line (1, 1)/√2 at −2, 0, 2: deviation √(8/3), so they land at ∓√1.5 and 0."""
    along = np.array([-2.0, 0.0, 2.0])[:, None] * np.array([[1.0, 1.0]]) / np.sqrt(2) + np.array([[5.0, -1.0]])
    reducer = fit_reducer(along.astype(np.float32), np.arange(3), 1)
    np.testing.assert_allclose(reducer.mean, [5, -1], atol=1e-6)
    np.testing.assert_allclose(reducer.components[:, 0], [0.5**0.5, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(
        reducer.transform(along.astype(np.float32), np.array([True, True, True]))[:, 0],
        [-(1.5**0.5), 0, 1.5**0.5],
        atol=1e-5,
    )


def test_other_rows_do_not_count() -> None:
    vectors = low_rank()
    rows = np.arange(0, 60, 2)
    first = fit_reducer(vectors, rows, 4)
    vectors[1::2] = 99
    second = fit_reducer(vectors, rows, 4)
    for name in ("mean", "components", "scale"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_train_rows_are_standardised_and_rows_without_text_are_zero() -> None:
    vectors, has_text = low_rank(), np.ones(60, dtype=bool)
    has_text[7] = False
    reduced = fit_reducer(vectors, np.flatnonzero(has_text), 3).transform(vectors, has_text)
    assert reduced.dtype == np.float32
    assert reduced.shape == (60, 3)
    assert not reduced[7].any()
    assert reduced[has_text].mean(0) == pytest.approx([0, 0, 0], abs=1e-5)
    assert reduced[has_text].std() == pytest.approx(1, abs=1e-4)
    deviations = reduced[has_text].std(0)
    assert (np.diff(deviations) <= 0).all(), "components keep their relative weight: no whitening"


@pytest.mark.parametrize(("num_rows", "reduce_dim", "allowed"), [(60, 6, 5), (3, 3, 2), (1, 1, 0), (0, 1, 0)])
def test_more_than_the_rank_is_refused(num_rows: int, reduce_dim: int, allowed: int) -> None:
    with pytest.raises(ConfigError, match=f"at most {allowed}"):
        fit_reducer(low_rank(), np.arange(num_rows), reduce_dim)


def test_save_and_load(tmp_path: Path) -> None:
    vectors, has_text = low_rank(), np.ones(60, dtype=bool)
    reducer = fit_reducer(vectors, np.arange(60), 3)
    reducer.save(tmp_path)
    np.testing.assert_array_equal(
        Reducer.load(tmp_path).transform(vectors, has_text), reducer.transform(vectors, has_text)
    )
    (tmp_path / REDUCER_FILE).write_bytes((tmp_path / REDUCER_FILE).read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="whole reducer"):
        Reducer.load(tmp_path)
