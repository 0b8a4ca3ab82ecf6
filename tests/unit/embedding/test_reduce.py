"""The reducer: fitted on train rows alone, standardised, deterministic, honest about rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.core.errors import ArtifactError, ConfigError
from lorefuse.embedding.reduce import REDUCER_FILE, Reducer, fit_reducer
from lorefuse.embedding.reducers import ReducerTarget


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
    with pytest.raises(ArtifactError, match="complete reducer"):
        Reducer.load(tmp_path)


def test_whitening_by_hand() -> None:
    """Deviations 2 and 1 along the axes both become 1."""
    corners = np.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]], dtype=np.float32)
    reducer = fit_reducer(corners, np.arange(4), 2, "whitening")
    np.testing.assert_allclose(reducer.scale, [2, 1], atol=1e-6)
    np.testing.assert_allclose(np.abs(reducer.transform(corners, np.ones(4, dtype=bool))), 1, atol=1e-6)


def test_whitened_train_rows_are_uncorrelated() -> None:
    reduced = fit_reducer(low_rank(), np.arange(40), 5, "whitening").transform(low_rank(), np.ones(60, dtype=bool))
    np.testing.assert_allclose(np.cov(reduced[:40].T, bias=True), np.eye(5), atol=1e-3)


def test_a_random_projection_keeps_distances() -> None:
    """Johnson-Lindenstrauss: with E = 512 all ratios of squared distances stay near one another."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 800)).astype(np.float32)
    reduced = fit_reducer(vectors, np.arange(40), 512, "random_projection").transform(vectors, np.ones(40, dtype=bool))
    pairs = np.triu_indices(40, 1)
    before, after = (((x[:, None] - x[None]) ** 2).sum(-1)[pairs] for x in (vectors, reduced))
    ratio = after / before
    assert (np.abs(ratio / ratio.mean() - 1) < 0.3).all()
    again, other = (fit_reducer(vectors, np.arange(40), 8, "random_projection", seed=seed) for seed in (0, 1))
    assert not np.allclose(again.components, other.components)


def test_no_reducer_changes_nothing() -> None:
    vectors = low_rank()
    np.testing.assert_array_equal(
        fit_reducer(vectors, np.arange(9), 3, "none").transform(vectors, np.ones(60, dtype=bool)), vectors
    )


def test_the_supervised_map_finds_the_direction_that_decides() -> None:
    """Text varies most where it does not matter; taste hangs on the last, smallest dimension."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 6)).astype(np.float32) * np.array([5, 4, 3, 2, 1, 0.5], dtype=np.float32)
    taste = np.stack([vectors[:, 5], -vectors[:, 5], 0 * vectors[:, 5]], axis=1) + rng.normal(0, 0.01, (400, 3))
    weight = np.ones(400, dtype=np.float32)
    weight[350:], taste[350:] = 0, 1e6  # items without a liked train row: never read
    target = ReducerTarget(taste.astype(np.float32), weight)
    reduced = fit_reducer(vectors, np.arange(400), 1, "supervised", target=target).transform(vectors, weight >= 0)
    assert abs(np.corrcoef(reduced[:, 0], vectors[:, 5])[0, 1]) > 0.999
    assert reduced.std() == pytest.approx(1, abs=1e-4)
    pca = fit_reducer(vectors, np.arange(400), 1).transform(vectors, weight >= 0)
    assert abs(np.corrcoef(pca[:, 0], vectors[:, 5])[0, 1]) < 0.1
    with pytest.raises(ConfigError, match="at most 6"):
        fit_reducer(vectors, np.arange(400), 7, "supervised", target=target)
    with pytest.raises(ValueError, match="target"):
        fit_reducer(vectors, np.arange(400), 1, "supervised")


@pytest.mark.parametrize("kind", ["none", "pca", "whitening", "random_projection", "supervised"])
def test_every_kind_is_an_affine_map_that_ignores_other_rows_and_travels(tmp_path: Path, kind: str) -> None:
    vectors, rows = low_rank(), np.arange(0, 60, 2)
    has_text = np.ones(60, dtype=bool)
    taste = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    first = fit_reducer(vectors, rows, 4, kind, target=ReducerTarget(taste, np.ones(60, dtype=np.float32)))
    first.save(tmp_path)
    loaded = Reducer.load(tmp_path)
    np.testing.assert_array_equal(loaded.transform(vectors, has_text), first.transform(vectors, has_text))
    weight, bias = loaded.affine()
    np.testing.assert_allclose(vectors @ weight + bias, first.transform(vectors, has_text), atol=1e-4)
    others = vectors.copy()
    others[1::2], taste[1::2] = 99, 99
    second = fit_reducer(others, rows, 4, kind, target=ReducerTarget(taste, np.ones(60, dtype=np.float32)))
    np.testing.assert_array_equal(second.components, first.components)


@pytest.mark.parametrize("kind", ["whitening", "random_projection"])
def test_items_that_do_not_differ_cannot_be_reduced(kind: str) -> None:
    with pytest.raises(ConfigError, match="texts differ"):
        fit_reducer(np.ones((5, 4), dtype=np.float32), np.arange(5), 1, kind)


def test_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="unknown reducer"):
        fit_reducer(low_rank(), np.arange(9), 2, "umap")
