"""Whether the items that people take have moved in the space of their text or graph vectors.

Suffixes: ``R`` reference rows, ``F`` fresh rows, ``E`` vector dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CentroidShift:
    """How far the mean vector has moved.

    Attributes:
        cosine_distance: 1 − cosine of the two centroids; 0 where either is zero.
        shift: Length of their difference.
        by_chance: Length that two samples of the reference, as large as these two, exceed with probability alpha.
    """

    cosine_distance: float
    shift: float
    by_chance: float

    @property
    def relative(self) -> float | None:
        """`shift` in units of `by_chance`: above 1 is more than chance. None where the reference has no spread."""
        return self.shift / self.by_chance if self.by_chance > 0 else None


def centroid_shift(
    reference_RE: NDArray[np.floating],
    fresh_FE: NDArray[np.floating],
    *,
    alpha: float,
    num_bootstraps: int,
    seed: int,
) -> CentroidShift:
    """Compare the mean vectors of two samples of rows, with the reference's own spread as the measure.

    Args:
        reference_RE: One vector per row.
        fresh_FE: One vector per row.
        alpha: Chance of a false alarm.
        num_bootstraps: Pairs of samples, as large as these two, drawn from the reference with replacement.
        seed: Of the draws.
    """
    reference = reference_RE.astype(np.float64)
    centre, fresh = reference.mean(axis=0), fresh_FE.astype(np.float64).mean(axis=0)
    lengths = np.linalg.norm(centre), np.linalg.norm(fresh)
    distance = 1 - float(centre @ fresh / (lengths[0] * lengths[1])) if min(lengths) > 0 else 0.0
    random = np.random.default_rng(seed)
    sizes = (len(fresh_FE), len(reference))
    drawn = np.empty(num_bootstraps)
    for number in range(num_bootstraps):
        # How often each row is drawn is enough: the mean is one product, with no copy of the rows.
        first, second = (
            np.bincount(random.integers(len(reference), size=size), minlength=len(reference)) / size for size in sizes
        )
        drawn[number] = np.linalg.norm((first - second) @ reference)
    shift = float(np.linalg.norm(fresh - centre))
    return CentroidShift(max(distance, 0.0), shift, float(np.quantile(drawn, 1 - alpha)))
