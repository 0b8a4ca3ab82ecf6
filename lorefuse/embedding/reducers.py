"""Five ways to fit a linear map of text vectors to fewer dimensions.

* ``none``: all dimensions as they are.
* ``pca``: the directions in which train items differ most; one scale, so that they keep their relative weight.
* ``whitening``: the same directions, each scaled to deviation 1 (BERT-whitening, arXiv:2103.15316). On small data its
  weak directions become fingerprints of items; see docs/experiments.md.
* ``random_projection``: Gaussian, which keeps distances within 1 ± ε for E ~ log N / ε² (Johnson & Lindenstrauss
  1984); nothing but mean and scale is fitted.
* ``supervised``: learned. Reduced-rank ridge regression (Izenman 1975) from text to the item's co-consumption vector:
  the E directions of text that say most about who likes an item. The other learned linear map, a linear autoencoder,
  spans at its optimum the very plane of PCA (Baldi & Hornik 1989), so it would add nothing. A train item's own
  interactions take part in the fit, a cold item's never do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ConfigError

_RIDGE_ALPHAS = np.logspace(-3, 3, 13)


@dataclass(frozen=True)
class Fit:
    """``(x − mean) · components / scale`` of one facet: float32 (dim,), (dim, E) and (1,) or (E,)."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, mean: NDArray[np.float64], components: NDArray[np.float64], scale: NDArray[np.float64]) -> Fit:
        """Round to float32."""
        return cls(mean.astype(np.float32), components.astype(np.float32), scale.astype(np.float32))

    @classmethod
    def nothing(cls, dim: int) -> Fit:
        """A facet that no item has: no dimensions come out."""
        return cls.of(np.zeros(dim), np.zeros((dim, 0)), np.ones(1))


@dataclass(frozen=True)
class ReducerTarget:
    """What the supervised map predicts.

    Attributes:
        vectors: float32 (N, T), of items with a train row; other rows are never read.
        weight: float32 (N,), how much each item counts; 0 where nothing is known.
    """

    vectors: NDArray[np.float32]
    weight: NDArray[np.float32]


def fit(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    reduce_dim: int,
    kind: str,
    *,
    seed: int = 0,
    target: ReducerTarget | None = None,
) -> Fit:
    """Fit on some rows of `vectors`; signs and solver are fixed, so a rerun gives the same bytes.

    Args:
        vectors: Text vectors, (N, dim).
        rows: Train items that have text.
        reduce_dim: E, for fitted directions at most the rank of the centred rows; `none` keeps all.
        kind: `none`, `pca`, `whitening`, `random_projection` or `supervised`.
        seed: Of the random projection.
        target: Of the supervised map.

    Returns:
        The fit; but for `none`, reduced train vectors have mean 0 and overall deviation 1.

    Raises:
        ConfigError: There are not enough different train items with text for E dimensions.
    """
    dim = vectors.shape[1]
    if kind == "none":
        return Fit.of(np.zeros(dim), np.eye(dim), np.ones(1))
    train = vectors[rows].astype(np.float64)
    if kind == "random_projection":
        components = np.random.default_rng(seed).normal(size=(dim, reduce_dim)) / np.sqrt(reduce_dim)
        mean = train.mean(0) if len(rows) else np.zeros(dim)
        _require(1, _rank(train - mean), len(rows), dim)
    elif kind == "supervised":
        if target is None:
            raise ValueError("the supervised reducer needs a target")
        mean, components = _reduced_rank_ridge(train, rows, reduce_dim, target)
    elif kind in ("pca", "whitening"):
        mean, components = _principal(train, reduce_dim)
    else:
        raise ValueError(f"unknown reducer {kind!r}")
    reduced = (vectors[rows] - mean) @ components
    return Fit.of(mean, components, reduced.std(0) if kind == "whitening" else np.array([reduced.std()]))


def _principal(train: NDArray[np.float64], reduce_dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from sklearn.decomposition import PCA

    num_rows, dim = train.shape
    # All components first: their spread tells how many directions the train items really differ in.
    with np.errstate(invalid="ignore"):  # rows that do not differ at all are refused below
        pca = PCA(min(num_rows, dim), svd_solver="covariance_eigh").fit(train) if num_rows > 1 else None
    spread = pca.singular_values_ if pca is not None else np.zeros(0)
    _require(reduce_dim, _count(spread), num_rows, dim)
    assert pca is not None  # a rank of at least 1 came out of it
    return pca.mean_, _fix_signs(pca.components_[:reduce_dim].T)


def _reduced_rank_ridge(
    train: NDArray[np.float64], rows: NDArray[np.int64], reduce_dim: int, target: ReducerTarget
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ridge to all target dimensions, then the leading directions of what it predicts."""
    from sklearn.linear_model import RidgeCV

    weight = target.weight[rows].astype(np.float64)
    known = weight > 0
    num_rows, dim = int(known.sum()), train.shape[1]
    _require(reduce_dim, _rank(train[known] - train[known].mean(0)) if num_rows > 1 else 0, num_rows, dim)
    centred = train[known] - np.average(train[known], axis=0, weights=weight[known])
    # The penalty is chosen by generalised leave-one-out cross-validation.
    ridge = RidgeCV(alphas=_RIDGE_ALPHAS).fit(
        centred, target.vectors[rows][known].astype(np.float64), sample_weight=weight[known]
    )
    coefficients = np.atleast_2d(ridge.coef_).T
    _, spread, directions = np.linalg.svd((centred @ coefficients) * np.sqrt(weight[known])[:, None], False)
    _require(reduce_dim, _count(spread), num_rows, dim)
    return train.mean(0), _fix_signs(coefficients @ directions[:reduce_dim].T)


def _fix_signs(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """A direction's sign is arbitrary: make its largest loading positive."""
    largest = components[np.abs(components).argmax(0), np.arange(components.shape[1])]
    signed: NDArray[np.float64] = components * np.sign(largest)
    return signed


def _rank(centred: NDArray[np.float64]) -> int:
    return _count(np.linalg.svd(centred, compute_uv=False).astype(np.float64)) if len(centred) > 1 else 0


def _count(spread: NDArray[np.float64]) -> int:
    return int((spread > 1e-5 * max(1.0, float(spread[0]))).sum()) if len(spread) else 0


def _require(reduce_dim: int, rank: int, num_rows: int, dim: int) -> None:
    if reduce_dim <= rank:
        return
    raise ConfigError(
        f"embedding.reduce_dim {reduce_dim} is too large for this data.",
        expected=f"at most {rank}: {num_rows} train items with text differ in {rank} directions (encoder width {dim})",
        got=str(reduce_dim),
        fix=f"set embedding.reduce_dim to {rank} or less" if rank else "bring items whose texts differ",
    )
