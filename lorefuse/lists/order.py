"""What orders the candidates: the blend alone, or the ranker beside it, whichever validation likes say.

Suffixes: ``U`` users, ``W`` the most candidates that any user has, ``K`` ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.core.progress import track
from lorefuse.lists.moments import Moments, stack
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.two_stage import Candidates, best_rows, logits
from lorefuse.retrieval.evaluate import interval
from lorefuse.retrieval.metrics import user_metrics

RankRows = Callable[[int, NDArray[np.int64]], NDArray[np.float32]]
"""Number of a user, candidates (M,) → the ranker's scores of them (M,)."""
NUM_NEW = 50
"""New items that are looked at for each user, beside known ones."""
BOOSTS = tuple(np.arange(0, 4.01, 0.1).round(1).tolist())
K, NUM_BOOTSTRAPS = 10, 200
BLEND_ALONE = {"blend": 1.0, "ranker": 0.0, "slope": 1.0, "offset": 0.0}
"""Factors of a final score that is the blend's."""
RANKER, IDENTITY = "ranker", "identity"
"""What the second stage may be."""
NUM_WEIGHED_USERS = 1000
"""Validation users that both stages are weighed by."""
WEIGHT_L2, MIN_BLEND = 1e-3, 0.05
"""Penalty of both stages' factors, and the least of the blend's: what was not found cannot be put in order."""


def put_in_order(
    fitted: Fitted, looked: Looked, moments: Moments, ranked_UW: NDArray[np.float32] | None, config: CandidatesConfig
) -> Fitted:
    """Return stages that also say what orders the candidates, and how far new items are lifted.

    Args:
        fitted: The blend, with its weights.
        looked: From `look`.
        moments: The same users, of validation, with likes to find.
        ranked_UW: The ranker's scores of the candidates; None: the blend alone orders.
        config: Who orders (``auto``: the ranker where its lists have a better NDCG@10 over all likes, beyond the paired
            interval over users), and what new items may cost.
    """
    kind = fitted.facts["label_kind"]
    scored = {IDENTITY: _Scored(looked, looked.blend, dict(BLEND_ALONE))}
    if ranked_UW is not None:
        scored[RANKER] = _both(looked, ranked_UW, kind)
    orders = {name: _order(totals, moments, config.new_item_cost) for name, totals in scored.items()}
    facts = dict(fitted.facts)
    if ranked_UW is not None:
        gain = orders[RANKER].ndcg - orders[IDENTITY].ndcg
        low, high = interval(gain, NUM_BOOTSTRAPS)
        facts["ranker_gain"] = {"mean": float(gain.mean()) if len(gain) else float("nan"), "low": low, "high": high}
    takes_ranker = ranked_UW is not None and (config.ranker != "auto" or facts["ranker_gain"]["low"] > 0)
    facts["orders"] = {
        name: {
            "final": {**scored[name].final, **_calibration(scored[name], order.boost)},
            "new_item_boost": order.boost,
        }
        for name, order in orders.items()
    }
    chosen = RANKER if takes_ranker else IDENTITY
    facts |= {**facts["orders"][chosen], "ordered_by": chosen}
    return Fitted(_lifted(fitted.arrays, facts["orders"][chosen], 1), facts)


def ranked_ndcg(looked: Looked, moments: Moments, ranked_UW: NDArray[np.float32], label_kind: str) -> float:
    """Return the mean NDCG@10 over all likes of lists that the ranker and the blend order together.

    Args:
        looked: From `look`.
        moments: The same users.
        ranked_UW: The ranker's scores of the candidates.
        label_kind: ``binary`` or ``regression``.
    """
    return _mean_ndcg(_best(looked.rows, _both(looked, ranked_UW, label_kind).total), moments.all)


def ordered_by(fitted: Fitted, name: str) -> Fitted:
    """Return the stages with the other of both in charge of the order; new items get the lift that goes with it.

    Args:
        fitted: From `put_in_order`.
        name: ``ranker`` or ``identity``, of those in the facts' ``orders``.
    """
    order = fitted.facts["orders"][name]
    plain = _lifted(fitted.arrays, fitted.facts, -1)
    return Fitted(_lifted(plain, order, 1), {**fitted.facts, **order, "ordered_by": name})


def _lifted(arrays: Mapping[str, NDArray[Any]], order: Mapping[str, Any], sign: int) -> dict[str, NDArray[Any]]:
    """Add an order's lift to the blend's biases; the lift is one of the final score, a factor away from the blend's."""
    biases = arrays["biases"].copy()
    biases[2] += sign * order["new_item_boost"] / order["final"]["blend"]
    return {**arrays, "biases": biases}


@dataclass(frozen=True)
class Looked:
    """The best known and new candidates of each user, as no ranker has seen them yet.

    Attributes:
        rows: int64 (U, W) catalogue rows; -1 is none.
        is_new: bool (U, W), without train rows.
        blend: float64 (U, W), the blend's scores; -inf where there is no candidate.
        is_liked: bool (U, W), what is to be found.
    """

    rows: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    blend: NDArray[np.float64]
    is_liked: NDArray[np.bool_]


@dataclass(frozen=True)
class _Scored:
    """Candidates with their final scores (U, W) under factors of both stages, -inf where there is none."""

    looked: Looked
    total: NDArray[np.float64]
    final: Mapping[str, float]


@dataclass(frozen=True)
class _Order:
    """The lift of new items, and the NDCG of each user's list under it, (U,)."""

    boost: float
    ndcg: NDArray[np.float64]


def look(fitted: Fitted, moments: Moments) -> Looked:
    """Return each user's best candidates by the blend, known and new ones apart."""
    candidates, facts = Candidates(fitted.arrays, fitted.facts), fitted.facts
    found, scores_of = [], []
    for number in track(range(len(moments)), "Weighing both stages"):
        scores = candidates.score(moments.past(number), moments.user_vectors(number)).astype(np.float64)
        scores[moments.hidden[number]] = -np.inf
        known, _ = best_rows(np.where(candidates.is_new, -np.inf, scores), facts["num_candidates"])
        new, _ = best_rows(np.where(candidates.is_new, scores, -np.inf), NUM_NEW)
        found.append(np.concatenate([known, new]))
        scores_of.append(scores[found[-1]])
    rows_UW = stack(found, max(map(len, found), default=0))
    is_there_UW = rows_UW >= 0
    blend_UW, is_liked_UW = np.full(rows_UW.shape, -np.inf), np.zeros(rows_UW.shape, bool)
    blend_UW[is_there_UW] = np.concatenate([*scores_of, np.zeros(0)])
    users, wanted = np.nonzero(is_there_UW)[0], moments.all
    is_liked_UW[is_there_UW] = np.asarray(wanted[users, rows_UW[is_there_UW]]) > 0
    return Looked(rows_UW, candidates.is_new[rows_UW] & is_there_UW, blend_UW, is_liked_UW)


def _both(looked: Looked, ranked_UW: NDArray[np.float32], label_kind: str) -> _Scored:
    """Add both stages up, with the factors under which the likes among the candidates come first: a softmax of two."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    is_there_UW = looked.rows >= 0
    logit_UW = np.where(is_there_UW, logits(ranked_UW, label_kind), 0.0)

    def total(factors: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(factors[0] * looked.blend + factors[1] * logit_UW)

    used = looked.is_liked.any(axis=1)
    if not used.any():
        return _Scored(looked, looked.blend, dict(BLEND_ALONE))
    share = looked.is_liked[used] / looked.is_liked[used].sum(axis=1, keepdims=True)
    parts = [np.where(is_there_UW, part, 0.0)[used] for part in (looked.blend, logit_UW)]

    def loss(factors: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_chance = log_softmax(total(factors)[used], axis=1)
        slope = [((np.exp(log_chance) - share) * part).sum() / len(share) for part in parts]
        value = -log_chance[looked.is_liked[used]] @ share[share > 0] / len(share)
        return float(value + WEIGHT_L2 * factors @ factors), np.array(slope) + 2 * WEIGHT_L2 * factors

    found = minimize(loss, np.array([1.0, 0.1]), jac=True, bounds=[(MIN_BLEND, None), (0, None)], method="L-BFGS-B").x
    return _Scored(looked, total(found), {**BLEND_ALONE, "blend": float(found[0]), "ranker": float(found[1])})


def _order(scored: _Scored, moments: Moments, cost: float) -> _Order:
    """Lift new items as far as known likes lose no more than their share of NDCG, and judge the lists."""
    looked = scored.looked

    def lists(boost: float) -> NDArray[np.int64]:
        return _best(looked.rows, scored.total + boost * looked.is_new)

    boost = 0.0
    if looked.is_new.any() and moments.cold.nnz:
        judged = {lift: [_mean_ndcg(lists(lift), part) for part in (moments.warm, moments.cold)] for lift in BOOSTS}
        floor = (1 - cost) * max(warm for warm, _ in judged.values())
        fitting = [lift for lift, (warm, _) in judged.items() if warm >= floor]
        boost = max(fitting, key=lambda lift: (judged[lift][1], -lift), default=0.0)
    ndcg_U = user_metrics(lists(boost), moments.all, K)["ndcg"]
    return _Order(boost, ndcg_U[np.isfinite(ndcg_U)])


def _best(rows_UW: NDArray[np.int64], total_UW: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rows of the best totals, (U, K); -1 where there are no more."""
    best_UK = np.argsort(-total_UW, axis=1, kind="stable")[:, :K]
    ranked = np.take_along_axis(rows_UW, best_UK, axis=1)
    return np.pad(ranked, ((0, 0), (0, K - ranked.shape[1])), constant_values=-1)


def _mean_ndcg(ranked: NDArray[np.int64], relevant: csr_array) -> float:
    judged = np.diff(relevant.indptr) > 0
    return float(user_metrics(ranked[judged], relevant[judged], K)["ndcg"].mean()) if judged.any() else 0.0


def _calibration(scored: _Scored, boost: float) -> dict[str, float]:
    """Return slope and offset that turn a final score into the chance that the item is liked in the part to come.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999, without its smoothed targets.
    """
    from scipy.optimize import minimize

    is_there_UW = scored.looked.rows >= 0
    totals = (scored.total + boost * scored.looked.is_new)[is_there_UW]
    liked = scored.looked.is_liked[is_there_UW]
    if not len(totals) or liked.all() or not liked.any():
        return {"slope": 1.0, "offset": 0.0}
    centre, scale = totals.mean(), max(float(totals.std()), 1e-9)
    signed, sign = (totals - centre) / scale, np.where(liked, -1.0, 1.0)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (values[0] * signed + values[1])
        slope = sign / (1 + np.exp(-np.clip(margin, -60, 60))) / len(signed)
        return float(np.logaddexp(0, margin).mean()), np.array([slope @ signed, slope.sum()])

    slope, offset = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B").x
    if slope <= 0:
        return {"slope": 1.0, "offset": 0.0}
    return {"slope": float(slope / scale), "offset": float(offset - slope / scale * centre)}
