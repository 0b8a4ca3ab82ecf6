"""Fit both stages of a served list: tables on train rows; the blend, and its weight beside the ranker, on validation.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``M`` candidates, ``D`` width of vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.contract import Split
from lorefuse.features.training_set import TrainingSet
from lorefuse.lists import tables as t
from lorefuse.lists.blend import collect, fit_blend
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.moments import Moments
from lorefuse.lists.stage_files import Fitted, ReaderParts
from lorefuse.lists.two_stage import Candidates, best_rows, logits
from lorefuse.progress import track
from lorefuse.retrieval.metrics import user_metrics

RankRows = Callable[[int, NDArray[np.int64]], NDArray[np.float32]]
"""Number of a user, candidates (M,) → the ranker's scores of them (M,)."""
NUM_WEIGHED_USERS, NUM_NEW = 1000, 50
"""Validation users that both stages are weighed by; new items that are looked at for each, beside known ones."""
BOOSTS = tuple(np.arange(0, 4.01, 0.1).round(1).tolist())
K = 10
_NO_BLEND = {"blend": 1.0, "ranker": 0.0, "slope": 1.0, "offset": 0.0}


def taken_in_train(training_set: TrainingSet) -> csr_array:
    """Return what each user took in train, liked or not, values 1, (U, N)."""
    rows = training_set.rows_of(Split.TRAIN)
    rows = rows[rows < training_set.num_states]
    shape = (len(training_set.user_fields), len(training_set.item_fields))
    pairs = (training_set.user_row[rows], training_set.item_row[rows])
    taken_UN = csr_array((np.ones(len(rows), np.float32), pairs), shape=shape)
    taken_UN.data[:] = 1.0  # a pair that was there twice had been added up
    return taken_UN


def make_tables(
    collaborative: Mapping[str, csr_array], knowledge: ItemKnowledge, config: CandidatesConfig
) -> dict[str, csr_array]:
    """Return all tables, with the new items in the place that knowledge gives them.

    Args:
        collaborative: From `tables.collaborative_tables`; the same for all arms.
        knowledge: What the arm knows of the items; nothing: new items stay out of all tables.
        config: Which tables. With given weights contents are no tables, see `readers`.
    """
    result, places = dict(collaborative), knowledge.places
    if places is not None:
        result = {name: t.with_new_items(table, places, config.num_neighbours) for name, table in result.items()}
    contents = {"content": knowledge.vectors, "graph_content": knowledge.graph_vectors}
    for name, vectors in contents.items():
        if name in config.views and vectors is not None and config.weights is None:
            result[name] = t.content_table(vectors, config)
    return result


def unfitted(
    tables: Mapping[str, csr_array],
    taken_UN: csr_array,
    config: CandidatesConfig,
    num_returned: int,
    label_kind: str,
    readers: Mapping[str, ReaderParts] | None = None,
) -> Fitted:
    """Return stages with the weights that are given; without any, popularity alone orders them.

    Args:
        tables: By name.
        taken_UN: What users took in train.
        config: Signals and sizes.
        num_returned: Most items of an answer.
        label_kind: ``binary`` or ``regression``.
        readers: Views that read a whole past, by name.
    """
    readers = readers or {}
    count_N = np.bincount(taken_UN.indices, minlength=taken_UN.shape[1])
    log_count = np.log1p(count_N)
    arrays: dict[str, NDArray[Any]] = {
        "popularity": ((log_count - log_count.mean()) / max(float(log_count.std()), 1e-9)).astype(np.float32),
        "is_new": count_N == 0,
    }
    for name, table in tables.items():
        table.sort_indices()
        arrays[f"{name}.indptr"] = table.indptr.astype(np.int64)
        arrays[f"{name}.indices"] = table.indices.astype(np.int32)
        arrays[f"{name}.values"] = table.data.astype(np.float32)
    for name, parts in readers.items():
        arrays |= {f"{name}.{key}": array for key, array in parts.arrays.items()}
    signals = [["liked", half_life] for half_life in config.half_lives] + [["seen", config.half_lives[0]]]
    if config.weights is not None:
        signals = signals[:1]
    names = [*tables, *readers] if config.weights is not None else []
    num_scores = len(tables) * len(signals) + len(readers)
    arrays |= _given_weights(names, num_scores, {str(name): weight for name, weight in (config.weights or {}).items()})
    facts = {
        "tables": list(tables),
        "signals": signals,
        "readers": {name: parts.facts for name, parts in readers.items()},
        "history_length": config.history_length,
        "num_candidates": config.num_candidates,
        "num_returned": num_returned,
        "label_kind": label_kind,
        "num_items": taken_UN.shape[1],
        "final": dict(_NO_BLEND),
    }
    return Fitted(arrays, facts)


def _given_weights(
    names: Sequence[str], num_scores: int, weights: Mapping[str, float]
) -> dict[str, NDArray[np.float32]]:
    """Return weights and biases of z-scores alone; popularity is all where no view of a weight could be made."""
    given = np.zeros((2, 2 * num_scores), np.float32)
    for place, name in enumerate(names):
        given[:, place] = weights[name]
    popular = weights.get("popularity", 0.0) if given.any() or "popularity" in weights else 1.0
    return {"weights": given, "biases": np.array([popular, 0, 0, 0], np.float32)}


def fit(
    start: Fitted,
    validation: Moments,
    ranking_of: Callable[[Moments], RankRows] | None,
    config: CandidatesConfig,
    seed: int,
) -> Fitted:
    """Learn the blend's weights if none are given, what the ranker adds, and how far new items are lifted.

    Args:
        start: From `unfitted`.
        validation: Validation users with likes to find.
        ranking_of: Users → the ranker's scores for them; None: the blend alone orders.
        config: Penalty, numbers of users, the cost of new items.
        seed: Of the draws.
    """
    weights, biases = start.arrays["weights"], start.arrays["biases"]
    if config.weights is None:
        candidates = Candidates(start.arrays, start.facts)
        examples = collect(candidates, validation.thinned(config.num_fit_users), seed)
        weights, biases = fit_blend(examples, config.l2, num_threads=2)
    arrays = {**start.arrays, "weights": weights, "biases": biases}
    weighed = validation.thinned(NUM_WEIGHED_USERS)
    rank = None if ranking_of is None else ranking_of(weighed)
    looked = _look(Candidates(arrays, start.facts), weighed, rank, start.facts)
    final = dict(_NO_BLEND) if rank is None else _weigh(looked, start.facts["label_kind"])
    boost = _boost(looked, weighed, final, config.new_item_cost, start.facts["label_kind"])
    # The boost is one of the final score; the blend's own is a factor away from it.
    arrays["biases"] = biases + np.array([0, 0, boost / final["blend"], 0], np.float32)
    alone = _boost(looked, weighed, _NO_BLEND, config.new_item_cost, start.facts["label_kind"])
    facts = {**start.facts, "final": final, "new_item_boost": boost, "new_item_boost_without_ranker": alone}
    return Fitted(arrays, {**facts, "final": {**final, **_calibration(Fitted(arrays, facts), weighed, looked)}})


def without_ranker(fitted: Fitted) -> Fitted:
    """Return the stages as they would be with the identity in the ranker's place: new items get a lift of their own."""
    facts, biases = fitted.facts, fitted.arrays["biases"].copy()
    biases[2] += facts["new_item_boost_without_ranker"] - facts["new_item_boost"] / facts["final"]["blend"]
    return Fitted({**fitted.arrays, "biases": biases}, {**facts, "final": dict(_NO_BLEND)})


@dataclass(frozen=True)
class _Looked:
    """The best known and new candidates of one user, with the scores of both stages."""

    rows: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    blend: NDArray[np.float64]
    ranked: NDArray[np.float32] | None
    is_liked: NDArray[np.bool_]

    def total(self, final: Mapping[str, float], label_kind: str) -> NDArray[np.float64]:
        total = final["blend"] * self.blend
        return total if self.ranked is None else total + final["ranker"] * logits(self.ranked, label_kind)


def _look(candidates: Candidates, moments: Moments, rank: RankRows | None, facts: Mapping[str, Any]) -> list[_Looked]:
    wanted = moments.all
    result = []
    for number in track(range(len(moments)), "Weighing both stages"):
        scores = candidates.score(moments.past(number), moments.user_vectors(number)).astype(np.float64)
        scores[moments.hidden[number]] = -np.inf
        known, _ = best_rows(np.where(candidates.is_new, -np.inf, scores), facts["num_candidates"])
        new, _ = best_rows(np.where(candidates.is_new, scores, -np.inf), NUM_NEW)
        rows = np.concatenate([known, new])
        likes = wanted.indices[wanted.indptr[number] : wanted.indptr[number + 1]]
        ranked = None if rank is None else rank(number, rows)
        result.append(_Looked(rows, candidates.is_new[rows], scores[rows], ranked, np.isin(rows, likes)))
    return result


def _weigh(looked: Sequence[_Looked], label_kind: str) -> dict[str, float]:
    """Return the factors of both stages under which the likes among the candidates come first: a softmax of two."""
    from scipy.optimize import minimize

    used = [one for one in looked if one.is_liked.any()]
    if not used:
        return dict(_NO_BLEND)
    features = [np.stack([one.blend, logits(_scores(one), label_kind)], axis=1) for one in used]

    def loss(factors: NDArray[np.float64]) -> float:
        total = 0.0
        for one, values in zip(used, features, strict=True):
            score = values @ factors
            peak = score.max()
            total += peak + np.log(np.exp(score - peak).sum()) - score[one.is_liked].mean()
        return total / len(used) + 1e-3 * float(factors @ factors)

    blend, ranker = minimize(loss, np.array([1.0, 0.1]), bounds=[(0.05, None), (0, None)], method="L-BFGS-B").x
    return {**_NO_BLEND, "blend": float(blend), "ranker": float(ranker)}


def _scores(one: _Looked) -> NDArray[np.float32]:
    assert one.ranked is not None
    return one.ranked


def _boost(
    looked: Sequence[_Looked], moments: Moments, final: Mapping[str, float], cost: float, label_kind: str
) -> float:
    """Return by how much new items are lifted: as far as known likes lose no more than their share of NDCG."""
    if not any(one.is_new.any() for one in looked) or not moments.cold.nnz:
        return 0.0
    width = max(len(one.rows) for one in looked)
    rows = np.stack([np.pad(one.rows, (0, width - len(one.rows)), constant_values=-1) for one in looked])
    is_new = np.stack([np.pad(one.is_new, (0, width - len(one.rows))) for one in looked])
    totals = np.full(rows.shape, -np.inf)
    for to, one in zip(totals, looked, strict=True):
        to[: len(one.rows)] = one.total(final, label_kind)
    judged: dict[float, tuple[float, float]] = {}
    for boost in BOOSTS:
        best = np.argsort(-(totals + boost * is_new), axis=1, kind="stable")[:, :K]
        ranked = np.take_along_axis(rows, best, axis=1)
        ranked = np.pad(ranked, ((0, 0), (0, K - ranked.shape[1])), constant_values=-1)
        judged[boost] = (_mean_ndcg(ranked, moments.warm), _mean_ndcg(ranked, moments.cold))
    floor = (1 - cost) * max(warm for warm, _ in judged.values())
    fitting = [boost for boost, (warm, _) in judged.items() if warm >= floor]
    return max(fitting, key=lambda boost: (judged[boost][1], -boost)) if fitting else 0.0


def _mean_ndcg(ranked: NDArray[np.int64], relevant: csr_array) -> float:
    judged = np.diff(relevant.indptr) > 0
    return float(user_metrics(ranked[judged], relevant[judged], K)["ndcg"].mean()) if judged.any() else 0.0


def _calibration(fitted: Fitted, moments: Moments, looked: Sequence[_Looked]) -> dict[str, float]:
    """Return slope and offset that turn a final score into the chance that the item is liked in the part to come."""
    from sklearn.linear_model import LogisticRegression

    final, boost = fitted.facts["final"], fitted.facts["new_item_boost"]
    totals = np.concatenate([one.total(final, fitted.facts["label_kind"]) + boost * one.is_new for one in looked])
    liked = np.concatenate([one.is_liked for one in looked])
    if not len(totals) or liked.all() or not liked.any():
        return {"slope": 1.0, "offset": 0.0}
    model = LogisticRegression(C=1e6).fit(totals[:, None], liked)
    slope = float(model.coef_[0, 0])
    return {"slope": slope if slope > 0 else 1.0, "offset": float(model.intercept_[0])}
