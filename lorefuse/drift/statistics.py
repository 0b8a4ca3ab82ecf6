"""How far two samples lie apart: population stability index and Kolmogorov-Smirnov distance, with their chance level.

Suffixes: ``B`` bins, ``R`` reference rows, ``F`` fresh rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SMALLEST_SHARE = 1e-4
"""An empty bin counts as this share: the logarithm of nothing is not a number."""
MAX_CATEGORIES = 20
OTHER = "other"


@dataclass(frozen=True)
class Binned:
    """Two samples in the same bins.

    Attributes:
        labels: What people read under each bin, B of them.
        reference: float64 (B,) shares of the reference, adding up to 1.
        fresh: float64 (B,) shares of the fresh sample.
        num_reference: Its rows.
        num_fresh: Its rows.
    """

    labels: tuple[str, ...]
    reference: Array
    fresh: Array
    num_reference: int
    num_fresh: int


def bin_numeric(reference_R: Array, fresh_F: Array, num_bins: int) -> Binned:
    """Put two numeric samples into bins that hold equal counts of the reference; what lies outside joins the end bins.

    Where many rows share a value there are fewer bins. A constant reference has three: below, equal, above.

    Args:
        reference_R: Finite values.
        fresh_F: Finite values.
        num_bins: At most this many.
    """
    edges = np.unique(np.quantile(reference_R, np.linspace(0, 1, num_bins + 1)[1:-1]))
    if reference_R.min() == reference_R.max():
        edges = np.array([edges[0], np.nextafter(edges[0], np.inf)])
    counts = [
        np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1)
        for sample in (reference_R, fresh_F)
    ]
    kept = (counts[0] + counts[1]) > 0
    ends = ["−∞", *(f"{edge:.3g}" for edge in edges), "∞"]
    labels = tuple(f"{low} … {high}" for low, high in pairwise(ends))
    return _binned(
        tuple(label for label, keep in zip(labels, kept, strict=True) if keep), counts[0][kept], counts[1][kept]
    )


def bin_categories(reference_R: NDArray[np.integer], fresh_F: NDArray[np.integer]) -> Binned:
    """Count categories: the most frequent of the reference each for itself, the rest together.

    Args:
        reference_R: Vocabulary indices; 0 is unseen.
        fresh_F: Vocabulary indices.
    """
    values, counts = np.unique(reference_R, return_counts=True)
    frequent = np.sort(values[np.argsort(-counts, kind="stable")[:MAX_CATEGORIES]])
    binned = []
    for sample in (reference_R, fresh_F):
        place = np.searchsorted(frequent, sample).clip(max=len(frequent) - 1)
        place = np.where(frequent[place] == sample, place, len(frequent))
        binned.append(np.bincount(place, minlength=len(frequent) + 1))
    labels = [*("unseen" if value == 0 else str(value) for value in frequent), OTHER]
    kept = (binned[0] + binned[1]) > 0
    return _binned(
        tuple(label for label, keep in zip(labels, kept, strict=True) if keep), binned[0][kept], binned[1][kept]
    )


def psi(binned: Binned) -> float:
    """Return the population stability index Σ (q − p) · ln(q / p) of fresh shares q and reference shares p.

    0 for equal shares; the same whichever sample is the reference, given the same bins. By custom below 0.1 is
    little, above 0.2 is much.

    Source: Siddiqi, Credit Risk Scorecards (2006); it is the symmetric Kullback-Leibler divergence (Jeffreys 1946).
    """
    p, q = np.maximum(binned.reference, SMALLEST_SHARE), np.maximum(binned.fresh, SMALLEST_SHARE)
    return float(((q - p) * np.log(q / p)).sum())


def psi_by_chance(binned: Binned, alpha: float) -> float:
    """Return the index that two samples of one distribution exceed with probability `alpha`.

    With B bins and samples of n and m rows it is about χ² with B − 1 degrees of freedom, times 1/n + 1/m: small
    samples give a large index for no reason.

    Source: Yurdakul & Naranjo, Statistical properties of the population stability index, J. Risk Model Valid. 2020.
    """
    from scipy.stats import chi2

    num_bins = len(binned.labels)
    if num_bins < 2:
        return 0.0
    return float(chi2.ppf(1 - alpha, num_bins - 1) * (1 / binned.num_reference + 1 / binned.num_fresh))


def ks(reference_R: Array, fresh_F: Array) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance of two samples, the largest gap of their distributions, and its p-value.

    Source: scipy.stats.ks_2samp, asymptotic.
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(reference_R, fresh_F, method="asymp")
    return float(found.statistic), float(found.pvalue)


def _binned(labels: tuple[str, ...], reference: NDArray[np.integer], fresh: NDArray[np.integer]) -> Binned:
    num_reference, num_fresh = int(reference.sum()), int(fresh.sum())
    return Binned(labels, reference / max(num_reference, 1), fresh / max(num_fresh, 1), num_reference, num_fresh)
