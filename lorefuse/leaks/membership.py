"""Was this row among those that a model was trained on? Attacks on losses, and how well they do.

Suffixes: ``M`` models, ``R`` rows, ``U`` users, ``S`` resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import UsageError
from lorefuse.training.compare import MIN_USERS, RESAMPLED
from lorefuse.training.row_metrics import EPSILON, Array

MIN_MODELS = 4
"""With fewer, a row has too often no model without it, or none with it, to be compared with."""
MAX_FALSE_SHARE = 0.01
CURVE_POINTS = np.concatenate([[0.0], np.geomspace(1e-4, 1, 61)])
"""Shares of false alarms at which curves are written down."""


@dataclass(frozen=True)
class Attack:
    """An attack on one model.

    Attributes:
        score: The higher, the more likely a member, (R,).
        is_member: The truth, (R,).
        user: User of each row, (R,), from 0.
    """

    score: Array
    is_member: NDArray[np.bool_]
    user: NDArray[np.int64]


def confidence(label_R: Array, score_R: Array, label_kind: str) -> Array:
    """Return how sure a model is of each row's label, (R,).

    ``log(p / (1 − p))`` of the probability p of the true label, which is close to normal over trainings; of a
    regression minus the squared error.

    Args:
        label_R: 0/1, or the value.
        score_R: Probability of a 1, clipped to [1e-7, 1 − 1e-7], or the predicted value.
        label_kind: ``binary`` or ``regression``.

    Source: Carlini et al. 2022, arXiv:2112.03570, section IV.C (logit scaling).
    """
    if label_kind != "binary":
        return -((score_R - label_R) ** 2)
    share_R = np.clip(np.where(label_R > 0.5, score_R, 1 - score_R), EPSILON, 1 - EPSILON)
    return np.asarray(np.log(share_R) - np.log1p(-share_R))


def likelihood_ratios(confidence_MR: Array, is_in_MR: NDArray[np.bool_]) -> Array:
    """Return for each model and row how much likelier its confidence is if it was trained on the row, (M, R).

    Each model is attacked with all others as shadows: ``log N(φ; μ_in, σ_in²) − log N(φ; μ_out, σ_out²)``, where the
    means are of the row's confidence in the shadows with and without it, and the variances are pooled over rows, which
    is the better choice for few shadows. NaN where all shadows have the row, or none has.

    Args:
        confidence_MR: From `confidence`.
        is_in_MR: Which rows each model was trained on. They must be drawn by each model on its own: were each row in
            exactly half of the models, counting the shadows would tell whether the last one has it.

    Raises:
        UsageError: There are fewer than `MIN_MODELS` models.

    Source: LiRA, Carlini et al. 2022, arXiv:2112.03570, algorithm 1, with the global variance of section VI.C.
    """
    if len(confidence_MR) < MIN_MODELS:
        raise UsageError(
            "Too few shadow models for a likelihood ratio.", expected=f"at least {MIN_MODELS}", got=str(len(is_in_MR))
        )
    ratio_MR = np.empty_like(confidence_MR)
    for model, value_R in enumerate(confidence_MR):
        others = np.arange(len(confidence_MR)) != model
        log_likelihoods = [
            _log_normal(value_R, confidence_MR[others], is_side) for is_side in (is_in_MR[others], ~is_in_MR[others])
        ]
        ratio_MR[model] = log_likelihoods[0] - log_likelihoods[1]
    return ratio_MR


def _log_normal(value_R: Array, shadow_MR: Array, is_side_MR: NDArray[np.bool_]) -> Array:
    """Return log N(value; mean of the shadows on one side, pooled variance), without its constant; NaN of no shadow."""
    count_R = is_side_MR.sum(axis=0)
    mean_R = np.where(count_R > 0, (shadow_MR * is_side_MR).sum(axis=0) / np.maximum(count_R, 1), np.nan)
    rest_MR = np.where(is_side_MR, shadow_MR - mean_R, 0.0)
    freedom = max(int(np.maximum(count_R - 1, 0).sum()), 1)
    variance = max(float((rest_MR**2).sum()) / freedom, 1e-12)
    return np.asarray(-0.5 * np.log(variance) - (value_R - mean_R) ** 2 / (2 * variance))


def attack_figures(attacks: Sequence[Attack], num_bootstraps: int, seed: int = 0) -> dict[str, Any]:
    """Return how well attacks do, as means over the attacked models.

    Args:
        attacks: One a model; rows with a score that is not finite are left out.
        num_bootstraps: Resamples of users, each drawn whole and the same for all models.
        seed: Of the resampling.

    Returns:
        ``auc``: 0.5 is guessing, and ``tpr``: share of members that are found while 1 % of the others raise a false
        alarm; guessing finds 1 %. Each mean, low and high, a 95 % percentile interval (NaN of few users). ``curve``:
        found shares at `CURVE_POINTS`. ``num_members`` and ``num_others`` of all models together.
    """
    known = [_finite(attack) for attack in attacks]
    users = [attack.user for attack in known]
    num_users = max((int(user.max()) + 1 for user in users if len(user)), default=0)
    aucs = [RESAMPLED["auc"](a.is_member.astype(np.float64), a.score, a.user) for a in known]
    found = [_found_shares(attack, np.array([MAX_FALSE_SHARE])) for attack in known]
    curves = [_found_shares(attack, CURVE_POINTS) for attack in known]
    present = np.unique(np.concatenate(users)) if users else np.zeros(0, np.int64)
    rng, once_U = np.random.default_rng(seed), np.ones(num_users)
    drawn: list[tuple[float, float]] = []
    for _ in range(num_bootstraps if len(present) >= MIN_USERS else 0):
        times_U = np.zeros(num_users)
        times_U[present] = rng.multinomial(len(present), np.full(len(present), 1 / len(present)))
        drawn.append((_mean([of(times_U) for of in aucs]), _mean([float(of(times_U)[0]) for of in found])))
    means = (_mean([of(once_U) for of in aucs]), _mean([float(of(once_U)[0]) for of in found]))
    ends = np.nanquantile(np.array(drawn), [0.025, 0.975], axis=0) if drawn else np.full((2, 2), np.nan)
    figures = {
        name: {"mean": means[place], "low": float(ends[0, place]), "high": float(ends[1, place])}
        for place, name in enumerate(("auc", "tpr"))
    }
    return {
        **figures,
        "curve": np.mean([of(once_U) for of in curves], axis=0).tolist(),
        "num_members": sum(int(attack.is_member.sum()) for attack in known),
        "num_others": sum(int((~attack.is_member).sum()) for attack in known),
    }


def _finite(attack: Attack) -> Attack:
    known = np.isfinite(attack.score)
    return Attack(attack.score[known], attack.is_member[known], attack.user[known])


def _found_shares(attack: Attack, false_shares: Array) -> Callable[[Array], Array]:
    """Return what gives the largest shares of members found at false alarms of at most so much, given a resample.

    Rows of one score raise the alarm together.
    """
    order = np.argsort(-attack.score, kind="stable")
    score, is_member, user = attack.score[order], attack.is_member[order], attack.user[order]
    last_of_score = np.flatnonzero(np.r_[score[1:] != score[:-1], True]) if len(score) else np.zeros(0, np.int64)

    def of_draw(times_U: Array) -> Array:
        weight_R = times_U[user]
        members = np.cumsum(weight_R * is_member)[last_of_score]
        others = np.cumsum(weight_R * ~is_member)[last_of_score]
        if not len(members) or members[-1] <= 0 or others[-1] <= 0:
            return np.full(len(false_shares), np.nan)
        place = np.searchsorted(others, false_shares * others[-1] * (1 + 1e-12), side="right")
        return np.asarray(np.concatenate([[0.0], members])[place] / members[-1])

    return of_draw


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
