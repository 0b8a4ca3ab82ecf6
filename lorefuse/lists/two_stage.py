"""Candidates and their order: what stands between a user's past and the list that the user is shown.

This one file runs where the list is judged and inside Triton, into whose version folders it is copied: what is judged
is what is served. It needs numpy alone. The arrays and facts it reads are described at `lists.stage_files`.

Suffixes: ``N`` items of the catalogue, ``J`` score vectors, ``L`` past items, ``M`` candidates, ``K`` returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Past = Mapping[str, Rows]
SHORT_PAST = 10.0
"""κ of κ / (n + κ): how much a past of n items leaves to what everybody likes."""
MAX_DENSE_BYTES = 64 * 1024 * 1024
"""Tables up to this size are held as one dense matrix: reading its rows is faster than adding up sparse ones."""
PAST = "past"
"""Input of the graph that reads likes in their order."""
_EPSILON = 1e-9


class Candidates:
    """The first stage: a learned blend of several views of the whole catalogue.

    Args:
        arrays: ``<table>.indptr``, ``<table>.indices`` and ``<table>.values`` of each table, from a past item to
            others; ``<vectors>.items`` float32 (N, D) of each recommender by vectors; ``popularity`` float32 (N,),
            standardised; ``is_new`` bool (N,), without train rows; ``weights`` float32 (2, 2 J), of known and of new
            items; ``biases`` float32 (4,).
        facts: ``tables``, ``vectors``, ``signals`` (pairs of ``liked`` or ``seen`` and a half-life), and
            ``history_length``.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        self.facts, self.num_items = facts, len(arrays["popularity"])
        self.popularity, self.is_new = arrays["popularity"], np.asarray(arrays["is_new"], bool)
        self.tables = [
            tuple(arrays[f"{name}.{part}"] for part in ("indptr", "indices", "values")) for name in facts["tables"]
        ]
        self.vectors = [arrays[f"{name}.items"] for name in facts["vectors"]]
        self.weights, self.biases = arrays["weights"], arrays["biases"]
        ages = np.arange(facts["history_length"])
        self.decays = {
            source: np.array(
                [0.5 ** (ages / half_life) for name, half_life in facts["signals"] if name == source], "f4"
            )
            for source in dict.fromkeys(name for name, _ in facts["signals"])
        }
        self.num_scores = len(self.tables) * len(facts["signals"]) + len(self.vectors)
        small = 4 * len(self.tables) * self.num_items**2 <= MAX_DENSE_BYTES
        self.dense = self._dense() if small and self.tables else None

    def _dense(self) -> Floats:
        """All tables side by side, (N, tables · N)."""
        result = np.zeros((self.num_items, len(self.tables), self.num_items), np.float32)
        for number, (indptr, indices, values) in enumerate(self.tables):
            rows = np.repeat(np.arange(self.num_items), np.diff(indptr))
            result[rows, number, indices] = values
        return result.reshape(self.num_items, -1)

    def raw(self, past: Past, user_vectors: Sequence[Floats] = ()) -> Floats:
        """Return the scores of the whole catalogue by every table, signal and set of vectors, float32 (J, N).

        Args:
            past: ``liked`` and ``seen`` → rows of the catalogue, newest first, each at most `history_length` long.
            user_vectors: One float32 (D,) for each of `vectors`.
        """
        parts = []
        for source, decays in self.decays.items():
            rows = np.asarray(past[source][: decays.shape[1]], np.int64)
            weights = decays[:, : len(rows)]
            if not self.tables:
                continue
            scores = self._from_dense(rows, weights) if self.dense is not None else self._from_sparse(rows, weights)
            parts.append(scores.reshape(-1, self.num_items))
        parts += [(items @ vector)[None] for items, vector in zip(self.vectors, user_vectors, strict=True)]
        return np.concatenate(parts) if parts else np.zeros((0, self.num_items), np.float32)

    def _from_dense(self, rows: Rows, weights: Floats) -> Floats:
        assert self.dense is not None
        return np.asarray(weights @ self.dense.take(rows, axis=0))

    def _from_sparse(self, rows: Rows, weights: Floats) -> Floats:
        """Add up the rows of the tables, (signals, tables, N)."""
        result = np.empty((len(weights), len(self.tables), self.num_items), np.float32)
        for number, (indptr, indices, values) in enumerate(self.tables):
            starts, lengths = indptr[rows], indptr[rows + 1] - indptr[rows]
            places = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
            places = places + np.arange(len(places)) if len(rows) else np.zeros(0, np.int64)
            items, entries = indices[places], values[places]
            for signal, weight in enumerate(weights):
                counted = entries * np.repeat(weight, lengths)
                result[signal, number] = np.bincount(items, counted, minlength=self.num_items)
        return result

    def views(self, raw: Floats) -> Floats:
        """Return both views of score vectors, float32 (2 J, N): z-scores, then their logarithms with the sign kept."""
        if not len(raw):
            return raw
        deviation = raw.std(1, keepdims=True)
        plain = (raw - raw.mean(1, keepdims=True)) / np.where(deviation > _EPSILON, deviation, 1.0)
        return np.concatenate([plain, np.copysign(np.log(1 + np.abs(plain)), plain)])

    def score(self, past: Past, user_vectors: Sequence[Floats] = ()) -> Floats:
        """Return the blend's score of every item, float32 (N,); arguments as for `raw`."""
        views = self.views(self.raw(past, user_vectors))
        known, new = self.weights @ views if len(views) else np.zeros((2, self.num_items), np.float32)
        return np.asarray(np.where(self.is_new, new, known) + self.bias(past))

    def bias(self, past: Past) -> Floats:
        """Return what an item's popularity and newness add for a user with this past, float32 (N,)."""
        popular, popular_short, new, new_short = self.biases
        short = short_past(past)
        weight = np.float32(popular + popular_short * short)
        return np.asarray(weight * self.popularity + np.float32(new + new_short * short) * self.is_new)


def short_past(past: Past) -> float:
    """Return κ / (n + κ) for a past of n items: 1 for somebody unknown, near 0 after many."""
    return SHORT_PAST / (max(len(past["liked"]), len(past["seen"])) + SHORT_PAST)


class TwoStage:
    """Both stages of one version.

    Args:
        arrays: As for `Candidates`.
        facts: As there, with ``num_candidates``, ``num_returned``, ``label_kind``, and ``final``: factors of the
            blend's score and of the ranker's, and the slope and offset that make a probability of their sum.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        self.facts = facts
        self.candidates = Candidates(arrays, facts)
        self.num_items = self.candidates.num_items

    @property
    def asks_ranker(self) -> bool:
        """Whether the ranker is asked about the candidates."""
        return bool(self.facts["final"]["ranker"])

    def find(self, past: Past, codes: Rows, user_vectors: Sequence[Floats] = ()) -> tuple[Rows, Floats]:
        """Return the rows that are worth ranking and the blend's scores of them, (M,) each, best first.

        Args:
            past: As for `Candidates.raw`.
            codes: `exclude_rows` of the user: a row that may not be shown, -1 for padding, or -2 - row for one that
                may; where there is one of these, no others may.
            user_vectors: As for `Candidates.raw`.
        """
        scores = self.candidates.score(past, user_vectors)
        allowed = allowed_rows(codes, self.num_items)
        num_wanted = max(self.facts["num_candidates"], self.facts["num_returned"])
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        return best_rows(scores, num_wanted)

    def order(self, rows: Rows, scores: Floats, ranked: Floats | None = None) -> tuple[Rows, Floats]:
        """Return rows best first, int64 (K,), and the chance of a like by each, float32 (K,).

        Args:
            rows: Candidates, (M,).
            scores: Of the blend, (M,).
            ranked: The ranker's scores of them, (M,); None: the blend's order stands.
        """
        final = self.facts["final"]
        total = final["blend"] * scores.astype(np.float64)
        if ranked is not None and final["ranker"]:
            total = total + final["ranker"] * logits(ranked, self.facts["label_kind"])
        best = np.lexsort((rows, -total))[: self.facts["num_returned"]]
        chance = 1 / (1 + np.exp(-np.clip(final["slope"] * total[best] + final["offset"], -60, 60)))
        return rows[best], chance.astype(np.float32)


def sequence_of(liked: Rows, facts: Mapping[str, Any]) -> Rows:
    """Return likes as the encoder of their order reads them: rows + 1, oldest first, 0 on the left, (1, L).

    Args:
        liked: Rows, newest first.
        facts: ``sequence_length``, and ``sequence_items``: rows from there on joined later, and the encoder knows none.
    """
    length = facts["sequence_length"]
    rows = liked[liked < facts["sequence_items"]][:length][::-1]
    past = np.zeros((1, length), np.int64)
    past[0, length - len(rows) :] = rows + 1
    return past


def allowed_rows(codes: Rows, num_items: int) -> NDArray[np.bool_] | None:
    """Return which rows may be shown, bool (N,); None: all of them. For codes see `TwoStage.find`."""
    codes = codes[codes != -1]
    if not len(codes):
        return None
    listed = -2 - codes[codes < -1]
    allowed = np.full(num_items, not len(listed))
    allowed[listed[listed < num_items]] = True
    allowed[codes[(codes >= 0) & (codes < num_items)]] = False
    return allowed


def best_rows(scores: NDArray[np.floating[Any]], num_wanted: int) -> tuple[Rows, NDArray[Any]]:
    """Return the rows of the best scores and these, best first and the lower row first among equals; -inf is none."""
    if num_wanted < len(scores):
        rows = np.sort(np.argpartition(-scores, num_wanted - 1)[:num_wanted])
    else:
        rows = np.arange(len(scores))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    rows = rows[scores[rows] > -np.inf]
    return rows, scores[rows]


def logits(scores: Floats, label_kind: str) -> NDArray[np.float64]:
    """Return what a ranker's scores add up as: log-odds of a probability, or a value as it is; float64."""
    values = scores.astype(np.float64)
    if label_kind != "binary":
        return values
    inside = np.clip(values, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))
