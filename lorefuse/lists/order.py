"""What orders the candidates: the blend alone, or the ranker beside it, whichever validation likes say.

Suffixes: ``U`` users, ``M`` candidates of a user, ``W`` the most of them that any user has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.lists.moments import Moments
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.two_stage import Candidates, best_rows, logits
from lorefuse.progress import track
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


def put_in_order(
    fitted: Fitted, looked: Sequence[Looked], moments: Moments, rank: RankRows | None, config: CandidatesConfig
) -> Fitted:
    """Return stages that also say what orders the candidates, and how far new items are lifted.

    Args:
        fitted: The blend, with its weights.
        looked: From `look`.
        moments: The same users, of validation, with likes to find.
        rank: The ranker's scores for them; None: the blend alone orders.
        config: Who orders (``auto``: the ranker where its lists have a better NDCG@10 over all likes, beyond the paired
            interval over users), and what new items may cost.
    """
    kind = fitted.facts["label_kind"]
    if rank is not None:
        looked = [replace(one, ranked=rank(number, one.rows)) for number, one in enumerate(looked)]
    orders = {IDENTITY: _order(looked, moments, BLEND_ALONE, config.new_item_cost, kind)}
    facts = dict(fitted.facts)
    if rank is not None:
        orders[RANKER] = _order(looked, moments, _weigh(looked, kind), config.new_item_cost, kind)
        gain = orders[RANKER].ndcg - orders[IDENTITY].ndcg
        low, high = interval(gain, NUM_BOOTSTRAPS)
        facts["ranker_gain"] = {"mean": float(gain.mean()) if len(gain) else float("nan"), "low": low, "high": high}
    takes_ranker = rank is not None and (config.ranker != "auto" or facts["ranker_gain"]["low"] > 0)
    facts["orders"] = {
        name: {"final": {**order.final, **_calibration(order, looked, kind)}, "new_item_boost": order.boost}
        for name, order in orders.items()
    }
    chosen = RANKER if takes_ranker else IDENTITY
    facts |= {**facts["orders"][chosen], "ordered_by": chosen}
    return Fitted(_lifted(fitted.arrays, facts["orders"][chosen], 1), facts)


def ranked_ndcg(looked: Sequence[Looked], moments: Moments, rank: RankRows, label_kind: str) -> float:
    """Return the mean NDCG@10 over all likes of lists that the ranker and the blend order together.

    Args:
        looked: From `look`.
        moments: The same users.
        rank: The ranker's scores for them.
        label_kind: ``binary`` or ``regression``.
    """
    ranked = [replace(one, ranked=rank(number, one.rows)) for number, one in enumerate(looked)]
    final = _weigh(ranked, label_kind)
    lists = np.full((len(ranked), K), -1, np.int64)
    for to, one in zip(lists, ranked, strict=True):
        best = np.argsort(-one.total(final, label_kind), kind="stable")[:K]
        to[: len(best)] = one.rows[best]
    return _mean_ndcg(lists, moments.all)


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
    """The best known and new candidates of one user, with the scores of both stages.

    Attributes:
        rows: int64 (M,) catalogue rows.
        is_new: bool (M,), without train rows.
        blend: float64 (M,) the blend's scores.
        ranked: float32 (M,) the ranker's scores; None where it was not asked.
        is_liked: bool (M,), what is to be found.
    """

    rows: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    blend: NDArray[np.float64]
    ranked: NDArray[np.float32] | None
    is_liked: NDArray[np.bool_]

    def total(self, final: Mapping[str, float], label_kind: str) -> NDArray[np.float64]:
        """Return the final scores under factors of both stages, float64 (M,)."""
        total = final["blend"] * self.blend
        return total if self.ranked is None else total + final["ranker"] * logits(self.ranked, label_kind)


@dataclass(frozen=True)
class _Order:
    """Factors of both stages, the lift of new items, and the NDCG of each user's list under both, (U,)."""

    final: Mapping[str, float]
    boost: float
    ndcg: NDArray[np.float64]


def look(fitted: Fitted, moments: Moments) -> list[Looked]:
    """Return each user's best candidates by the blend, known and new ones apart, as no ranker has seen them yet."""
    candidates, facts = Candidates(fitted.arrays, fitted.facts), fitted.facts
    wanted = moments.all
    result = []
    for number in track(range(len(moments)), "Weighing both stages"):
        scores = candidates.score(moments.past(number), moments.user_vectors(number)).astype(np.float64)
        scores[moments.hidden[number]] = -np.inf
        known, _ = best_rows(np.where(candidates.is_new, -np.inf, scores), facts["num_candidates"])
        new, _ = best_rows(np.where(candidates.is_new, scores, -np.inf), NUM_NEW)
        rows = np.concatenate([known, new])
        likes = wanted.indices[wanted.indptr[number] : wanted.indptr[number + 1]]
        result.append(Looked(rows, candidates.is_new[rows], scores[rows], None, np.isin(rows, likes)))
    return result


def _weigh(looked: Sequence[Looked], label_kind: str) -> dict[str, float]:
    """Return the factors of both stages under which the likes among the candidates come first: a softmax of two."""
    from scipy.optimize import minimize

    used = [one for one in looked if one.is_liked.any()]
    if not used:
        return dict(BLEND_ALONE)
    features = [np.stack([one.blend, logits(_scores(one), label_kind)], axis=1) for one in used]

    def loss(factors: NDArray[np.float64]) -> float:
        total = 0.0
        for one, values in zip(used, features, strict=True):
            score = values @ factors
            peak = score.max()
            total += peak + np.log(np.exp(score - peak).sum()) - score[one.is_liked].mean()
        return total / len(used) + 1e-3 * float(factors @ factors)

    blend, ranker = minimize(loss, np.array([1.0, 0.1]), bounds=[(0.05, None), (0, None)], method="L-BFGS-B").x
    return {**BLEND_ALONE, "blend": float(blend), "ranker": float(ranker)}


def _scores(one: Looked) -> NDArray[np.float32]:
    assert one.ranked is not None
    return one.ranked


def _order(
    looked: Sequence[Looked], moments: Moments, final: Mapping[str, float], cost: float, label_kind: str
) -> _Order:
    """Lift new items as far as known likes lose no more than their share of NDCG, and judge the lists."""
    width = max((len(one.rows) for one in looked), default=0)
    rows_UW = np.full((len(looked), width), -1, np.int64)
    is_new_UW, total_UW = np.zeros(rows_UW.shape, bool), np.full(rows_UW.shape, -np.inf)
    for user, one in enumerate(looked):
        filled = user, slice(len(one.rows))
        rows_UW[filled], is_new_UW[filled], total_UW[filled] = one.rows, one.is_new, one.total(final, label_kind)

    def lists(boost: float) -> NDArray[np.int64]:
        best_UK = np.argsort(-(total_UW + boost * is_new_UW), axis=1, kind="stable")[:, :K]
        ranked = np.take_along_axis(rows_UW, best_UK, axis=1)
        return np.pad(ranked, ((0, 0), (0, K - ranked.shape[1])), constant_values=-1)

    boost = 0.0
    if is_new_UW.any() and moments.cold.nnz:
        judged = {lift: [_mean_ndcg(lists(lift), part) for part in (moments.warm, moments.cold)] for lift in BOOSTS}
        floor = (1 - cost) * max(warm for warm, _ in judged.values())
        fitting = [lift for lift, (warm, _) in judged.items() if warm >= floor]
        boost = max(fitting, key=lambda lift: (judged[lift][1], -lift), default=0.0)
    ndcg_U = user_metrics(lists(boost), moments.all, K)["ndcg"]
    return _Order(final, boost, ndcg_U[np.isfinite(ndcg_U)])


def _mean_ndcg(ranked: NDArray[np.int64], relevant: csr_array) -> float:
    judged = np.diff(relevant.indptr) > 0
    return float(user_metrics(ranked[judged], relevant[judged], K)["ndcg"].mean()) if judged.any() else 0.0


def _calibration(order: _Order, looked: Sequence[Looked], label_kind: str) -> dict[str, float]:
    """Return slope and offset that turn a final score into the chance that the item is liked in the part to come.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999, without its smoothed targets.
    """
    from scipy.optimize import minimize

    totals = np.concatenate([one.total(order.final, label_kind) + order.boost * one.is_new for one in looked])
    liked = np.concatenate([one.is_liked for one in looked])
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
