"""ROC, calibration and score distribution, computed from a model's test scores.

``R`` rows, ``P`` points, ``T`` bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MAX_ROC_POINTS = 200


def roc(label_R: Array, score_R: Array) -> tuple[Array, Array, float]:
    """Return false and true positive rates by falling threshold, and the area below.

    The area is that of the full curve; the curve itself is thinned to about `MAX_ROC_POINTS` points. With labels of
    one class there is no curve: empty arrays and NaN.

    Source: Fawcett 2006, algorithm 1.
    """
    positives, negatives = label_R.sum(), (1 - label_R).sum()
    if not positives or not negatives:
        return np.zeros(0), np.zeros(0), float("nan")
    order = np.argsort(-score_R, kind="stable")
    score, label = score_R[order], label_R[order]
    last = np.flatnonzero(np.r_[score[1:] != score[:-1], True])  # last row of each run of equal scores
    tpr_P = np.r_[0.0, np.cumsum(label)[last] / positives]
    fpr_P = np.r_[0.0, np.cumsum(1 - label)[last] / negatives]
    area = float(np.trapezoid(tpr_P, fpr_P))
    keep = np.unique(np.linspace(0, len(fpr_P) - 1, MAX_ROC_POINTS).round().astype(int))
    return fpr_P[keep], tpr_P[keep], area


def calibration(label_R: Array, score_R: Array, num_bins: int = 10) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return mean score, mean label and number of rows per bin; bins hold about the same number of rows.

    A model is calibrated where both means agree: of all rows scored 0.7, seven in ten are liked.
    """
    order = np.argsort(score_R, kind="stable")
    bins = [part for part in np.array_split(order, num_bins) if len(part)]
    score_T = np.array([score_R[part].mean() for part in bins])
    label_T = np.array([label_R[part].mean() for part in bins])
    return score_T, label_T, np.array([len(part) for part in bins])


def calibration_error(label_R: Array, score_R: Array, num_bins: int = 10) -> float:
    """Return the expected calibration error: mean |mean label − mean score| over bins, weighted by rows.

    Source: Naeini et al., AAAI 2015, with bins of equal size.
    """
    score_T, label_T, rows_T = calibration(label_R, score_R, num_bins)
    return float((np.abs(score_T - label_T) * rows_T).sum() / rows_T.sum())
