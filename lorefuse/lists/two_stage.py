"""Candidates and their order: what stands between a user's past and the list that the user is shown.

This one file runs where the list is judged and inside Triton, into whose version folders it is copied: what is judged
is what is served. It needs numpy alone. The arrays and facts it reads are described at `lists.stage_files`.

Suffixes: ``N`` items of the catalogue, ``J`` score vectors, ``L`` past items, ``M`` candidates, ``K`` returned, ``V``
users of train, ``D`` width of vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Past = Mapping[str, NDArray[Any]]
"""``liked`` and ``seen`` → rows of the catalogue, newest first; where known, ``user`` → the user's `user_fields`, and
``interest`` → the `user_interest`, float32."""
Arrays = Mapping[str, NDArray[Any]]
Encoded = Mapping[str, Floats]
"""Name of an encoder → what its graph makes of a past, (D,)."""
SHORT_PAST = 10.0
"""κ of κ / (n + κ): how much a past of n items leaves to what everybody likes."""
MAX_DENSE_BYTES = 64 * 1024 * 1024
"""Tables up to this size are held as one dense matrix: reading its rows is faster than adding up sparse ones."""
MAX_FULL_ITEMS = 50_000
"""Of larger catalogues views are worked out where tables say something; everywhere else they say the same."""
NUM_SAMPLED = 4096
"""Scores of a large catalogue that tell from where on the best ones are."""
PAST = "past"
"""Input of the graph that reads likes in their order."""
_EPSILON = 1e-9
_NOTHING: Encoded = MappingProxyType({})


class Reader(Protocol):
    """A view that reads a whole past at once."""

    def scores(self, past: Past, encoded: Encoded) -> Floats:
        """Return a score of every item, float32 (N,)."""


class NearUsers:
    """What those like who share most with a past: the arithmetic of `retrieval.neighbours.UserKNN`.

    Args:
        name: Of the view.
        arrays: Of the view: ``ids`` int32 (V,), each user's index in the vocabulary; ``takers.indptr`` and
            ``takers.indices``, from an item to the users who took it; ``taken.indptr``, ``taken.indices`` and
            ``taken.values``, from a user to items.
        facts: ``num_neighbours``, ``shrinkage`` and ``half_life``.
        num_items: N.
    """

    def __init__(self, name: str, arrays: Arrays, facts: Mapping[str, Any], num_items: int) -> None:
        self.arrays, self.facts, self.num_items = arrays, facts, num_items
        self.norms = np.sqrt(np.bincount(arrays["takers.indices"], minlength=len(arrays["ids"])))

    def scores(self, past: Past, encoded: Encoded) -> Floats:
        """Return Σ of the similarities of the nearest other users who took an item, float32 (N,)."""
        liked, num_users = past["liked"], len(self.norms)
        weights = recency(len(liked), self.facts["half_life"])
        places, lengths = entries(self.arrays["takers.indptr"], liked)
        shared = np.bincount(self.arrays["takers.indices"][places], np.repeat(weights, lengths), minlength=num_users)
        near = shared / np.maximum(np.linalg.norm(weights) * self.norms + self.facts["shrinkage"], _EPSILON)
        if len(past.get("user", ())) and past["user"][0]:
            near[self.arrays["ids"] == past["user"][0]] = 0
        users = nearest(near, self.facts["num_neighbours"])
        places, lengths = entries(self.arrays["taken.indptr"], users)
        counted = self.arrays["taken.values"][places] * np.repeat(near[users], lengths)
        found = np.bincount(self.arrays["taken.indices"][places], counted, minlength=self.num_items)
        return found.astype(np.float32)


class PastSums:
    """Products of items' vectors with a sum over who the user is and what they liked.

    user = Σ fields + Σ w·past / n, where n is Σ w or its square root: two towers (`retrieval.vectors`), LightGCN folded
    in (`LightGCN.fold_in`), and the cosine with the mean of a past. A user's length says nothing, and is left as it is.

    Args:
        name: Of the view.
        arrays: Of the view: ``items`` and ``past``, float32 (N, D); ``users`` float32 (·, D), the tables of all user
            fields one below the other, and ``offsets`` int64 (fields + 1,), where each begins, and the end.
        facts: ``half_life``, or None where all likes count the same, and ``root``, whether n is the square root.
        num_items: N.
    """

    def __init__(self, name: str, arrays: Arrays, facts: Mapping[str, Any], num_items: int) -> None:
        self.arrays, self.facts = arrays, facts
        self.starts, self.sizes = arrays["offsets"][:-1], np.diff(arrays["offsets"])

    def scores(self, past: Past, encoded: Encoded) -> Floats:
        """Return the products with all items, float32 (N,); 0 where neither user nor past is known."""
        vector = np.zeros(self.arrays["items"].shape[1], np.float32)
        fields = past.get("user", np.zeros(len(self.sizes), np.int64))[: len(self.sizes)]
        vector += self.arrays["users"][np.where(fields < self.sizes, fields, 0) + self.starts].sum(0)
        weights = recency(len(past["liked"]), self.facts["half_life"])
        if len(weights):
            total = weights.sum()
            vector += weights / (np.sqrt(total) if self.facts["root"] else total) @ self.arrays["past"][past["liked"]]
        return np.asarray(self.arrays["items"] @ vector)


class PastEncoder:
    """Products of items' vectors with what a graph makes of a past: SASRec.

    Args:
        name: Of the view, under which the graph's vector is looked up.
        arrays: Of the view: ``items`` float32 (N, D).
        facts: See `sequence_of`.
        num_items: N.
    """

    def __init__(self, name: str, arrays: Arrays, facts: Mapping[str, Any], num_items: int) -> None:
        self.name, self.items = name, arrays["items"]

    def scores(self, past: Past, encoded: Encoded) -> Floats:
        """Return the products with all items, float32 (N,)."""
        return np.asarray(self.items @ encoded[self.name])


class Asked:
    """Cosines of the items' texts with what the user asked just now; 0 where nothing was asked.

    Args:
        name: Of the view.
        arrays: Of the view: ``items`` float32 (N, D), of unit length.
        facts: ``start`` and ``end`` of the columns of `user_interest` that hold what was asked.
        num_items: N.
    """

    def __init__(self, name: str, arrays: Arrays, facts: Mapping[str, Any], num_items: int) -> None:
        self.items, self.columns = arrays["items"], slice(facts["start"], facts["end"])

    def scores(self, past: Past, encoded: Encoded) -> Floats:
        """Return the products with all items, float32 (N,)."""
        if "interest" not in past:
            return np.zeros(len(self.items), np.float32)
        return np.asarray(self.items @ past["interest"][self.columns])


ENCODER = "encoder"
READERS: dict[str, Callable[[str, Arrays, Mapping[str, Any], int], Reader]] = {
    "near_users": NearUsers,
    "past_sums": PastSums,
    "asked": Asked,
    ENCODER: PastEncoder,
}


class Views:
    """What all views say of the catalogue: z-scores, then their logarithms with the sign kept.

    Args:
        values: float32 (2 J, R), of the rows that are listed.
        rows: int64 (R,), ascending; None: all, R is N.
        rest: float32 (2 J,), of every other row.
    """

    def __init__(self, values: Floats, rows: Rows | None = None, rest: Floats | None = None) -> None:
        self.values, self.rows = values, rows
        self.rest = np.zeros(len(values), np.float32) if rest is None else rest

    def at(self, wanted: Rows) -> Floats:
        """Return the views of some rows, float32 (2 J, W)."""
        if self.rows is None:
            return self.values[:, wanted]
        if not len(self.rows):
            return np.repeat(self.rest[:, None], len(wanted), axis=1)
        places = np.minimum(np.searchsorted(self.rows, wanted), len(self.rows) - 1)
        return np.where(self.rows[places] == wanted, self.values[:, places], self.rest[:, None])


class Candidates:
    """The first stage: a weighted sum of several views of the whole catalogue.

    Args:
        arrays: ``<table>.indptr``, ``<table>.indices`` and ``<table>.values`` of each table, from a past item to
            others; ``<reader>.<array>`` of each reader; ``popularity`` float32 (N,), standardised; ``is_new`` bool
            (N,), without train rows; ``weights`` float32 (2, 2 J), of known and of new items; ``biases`` float32 (4,).
        facts: ``tables``; ``signals`` (pairs of ``liked`` or ``seen`` and a half-life), by which tables are read;
            ``readers`` (name → ``kind``, see `READERS`, and its facts); ``history_length``.
    """

    def __init__(self, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        self.facts, self.num_items = facts, len(arrays["popularity"])
        self.popularity, self.is_new = arrays["popularity"], np.asarray(arrays["is_new"], bool)
        self.tables = [
            tuple(arrays[f"{name}.{part}"] for part in ("indptr", "indices", "values")) for name in facts["tables"]
        ]
        self.readers: list[Reader] = [
            READERS[of["kind"]](name, named(arrays, name), of, self.num_items) for name, of in facts["readers"].items()
        ]
        self.weights, self.biases = arrays["weights"], arrays["biases"]
        ages = np.arange(facts["history_length"])
        self.decays = {
            source: np.array(
                [0.5 ** (ages / half_life) for name, half_life in facts["signals"] if name == source], "f4"
            )
            for source in dict.fromkeys(name for name, _ in facts["signals"])
        }
        self.num_scores = len(self.tables) * len(facts["signals"]) + len(self.readers)
        small = 4 * len(self.tables) * self.num_items**2 <= MAX_DENSE_BYTES
        self.dense = self._dense() if small and self.tables else None
        self._places = np.zeros(self.num_items if self.num_items > MAX_FULL_ITEMS else 0, np.int32)
        self._new_rows = np.flatnonzero(self.is_new)

    def _dense(self) -> Floats:
        """All tables side by side, (N, tables · N)."""
        result = np.zeros((self.num_items, len(self.tables), self.num_items), np.float32)
        for number, (indptr, indices, values) in enumerate(self.tables):
            rows = np.repeat(np.arange(self.num_items), np.diff(indptr))
            result[rows, number, indices] = values
        return result.reshape(self.num_items, -1)

    def raw(self, past: Past, encoded: Encoded = _NOTHING) -> Floats:
        """Return the scores of the whole catalogue by every table and signal and by every reader, float32 (J, N).

        Args:
            past: The newest `history_length` of each list are read; rows that are not there count for nothing.
            encoded: What the graphs made of the past, one vector for each reader that is an encoder.
        """
        past = {**past, **{source: self._known(past[source]) for source in ("liked", "seen")}}
        parts = []
        for source, decays in self.decays.items() if self.tables else ():
            rows = past[source]
            weights = decays[:, : len(rows)]
            is_dense = self.dense is not None
            scores = self._from_dense(rows, weights) if is_dense else self._from_sparse(rows, weights, self.num_items)
            parts.append(scores.reshape(-1, self.num_items))
        parts += [reader.scores(past, encoded)[None] for reader in self.readers]
        return np.concatenate(parts) if parts else np.zeros((0, self.num_items), np.float32)

    def look(self, past: Past, encoded: Encoded = _NOTHING) -> Views:
        """Return what all views say; arguments as for `raw`."""
        if self.num_items <= MAX_FULL_ITEMS or self.readers or not self.tables:
            return Views(self.views(self.raw(past, encoded)))
        return self._partial({source: self._known(past[source]) for source in self.decays})

    def _partial(self, lists: Past) -> Views:
        """Return the views of the items that some table leads to; of all others every table says nothing, a 0."""
        touched = np.zeros(self.num_items, bool)
        for rows in lists.values():
            for indptr, indices, _ in self.tables:
                touched[indices[entries(indptr, rows)[0]]] = True
        found = np.flatnonzero(touched)
        self._places[found] = np.arange(len(found))  # those of other rows are left from before, and nobody reads them
        sums = [
            self._from_sparse(rows, self.decays[source][:, : len(rows)], len(found), self._places)
            for source, rows in lists.items()
        ]
        raw = np.concatenate([part.reshape(part.shape[0] * part.shape[1], -1) for part in sums])
        mean = raw.sum(1, dtype=np.float64, keepdims=True) / self.num_items
        square = np.einsum("jr,jr->j", raw, raw, dtype=np.float64)[:, None] / self.num_items
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        scale = np.where(deviation > _EPSILON, deviation, 1.0)
        values, rest = (with_logarithms(((part - mean) / scale).astype(np.float32)) for part in (raw, np.zeros((1, 1))))
        return Views(values, found, rest[:, 0])

    def _known(self, rows: Rows) -> Rows:
        rows = np.asarray(rows, np.int64)
        return rows[(rows >= 0) & (rows < self.num_items)][: self.facts["history_length"]]

    def _from_dense(self, rows: Rows, weights: Floats) -> Floats:
        assert self.dense is not None
        return np.asarray(weights @ self.dense.take(rows, axis=0))

    def _from_sparse(
        self, rows: Rows, weights: Floats, width: int, places_N: NDArray[np.int32] | None = None
    ) -> Floats:
        """Add up the rows of the tables, (signals, tables, width), each item at its own place."""
        result = np.empty((len(weights), len(self.tables), width), np.float32)
        for number, (indptr, indices, values) in enumerate(self.tables):
            places, lengths = entries(indptr, rows)
            items, found = indices[places], values[places]
            columns = items if places_N is None else places_N[items]
            for signal, weight in enumerate(weights):
                counted = found * np.repeat(weight, lengths)
                result[signal, number] = np.bincount(columns, counted, minlength=width)
        return result

    def views(self, raw: Floats) -> Floats:
        """Return both views of score vectors, float32 (2 J, N): z-scores, then their logarithms with the sign kept."""
        if not len(raw):
            return raw
        deviation = raw.std(1, keepdims=True)
        return with_logarithms((raw - raw.mean(1, keepdims=True)) / np.where(deviation > _EPSILON, deviation, 1.0))

    def score(self, past: Past, encoded: Encoded = _NOTHING) -> Floats:
        """Return the weighted sum of every item, float32 (N,); arguments as for `raw`."""
        views = self.look(past, encoded)
        popular, popular_short, new, new_short = self.biases
        short = short_past(past)
        of_popular, of_new = np.float32(popular + popular_short * short), np.float32(new + new_short * short)
        if not self.biases[:2].any() and not views.values.any():  # nothing tells items apart here: what all like
            of_popular = np.float32(1)
        of_known = of_popular * self.popularity
        if views.rows is None:
            known, new = self.weights @ views.values if len(views.values) else np.zeros((2, self.num_items), np.float32)
            return np.asarray(np.where(self.is_new, new, known) + (of_known + of_new * self.is_new))
        rest_known, rest_new = self.weights @ views.rest
        found = of_known + rest_known
        found[self._new_rows] += of_new + rest_new - rest_known
        of_views, is_new = self.weights @ views.values, self.is_new[views.rows]
        found[views.rows] = np.where(is_new, of_views[1] + of_new, of_views[0]) + of_known[views.rows]
        return np.asarray(found)


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

    def find(self, past: Past, codes: Rows, encoded: Encoded = _NOTHING) -> tuple[Rows, Floats]:
        """Return the rows that are worth ranking and the first stage's scores of them, (M,) each, best first.

        Args:
            past: As for `Candidates.raw`.
            codes: `exclude_rows` of the user: a row that may not be shown, -1 for padding, or -2 - row for one that
                may; where there is one of these, no others may.
            encoded: As for `Candidates.raw`.
        """
        scores = self.candidates.score(past, encoded)
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


class OnnxGraph(Protocol):
    """An open ONNX graph."""

    def run(self, names: None, feed: dict[str, Rows]) -> list[Floats]:
        """Return all outputs."""


def encoder_names(facts: Mapping[str, Any]) -> list[str]:
    """Return the readers whose vectors a graph makes: `encode` asks ``<name>.onnx``."""
    return [name for name, of in facts["readers"].items() if of["kind"] == ENCODER]


def encode(liked: Rows, graphs: Mapping[str, OnnxGraph], facts: Mapping[str, Any]) -> dict[str, Floats]:
    """Return what each graph makes of likes (rows, newest first), (D,) each, by name."""
    return {
        name: graph.run(None, {PAST: sequence_of(liked, facts["readers"][name])})[0][0]
        for name, graph in graphs.items()
    }


def sequence_of(liked: Rows, facts: Mapping[str, Any]) -> Rows:
    """Return likes as an encoder of their order reads them: rows + 1, oldest first, 0 on the left, (1, L).

    Args:
        liked: Rows, newest first.
        facts: ``length``, and ``num_items``: rows from there on joined later, and the encoder knows none.
    """
    length = facts["length"]
    rows = liked[liked < facts["num_items"]][:length][::-1]
    past = np.zeros((1, length), np.int64)
    past[0, length - len(rows) :] = rows + 1
    return past


def with_logarithms(plain: Floats) -> Floats:
    """Return z-scores (J, N) and below them their logarithms with the sign kept, (2 J, N)."""
    return np.concatenate([plain, np.copysign(np.log(1 + np.abs(plain)), plain)])


def named(arrays: Arrays, name: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose name begins with ``<name>.``, without that."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def recency(length: int, half_life: float | None) -> Floats:
    """Return the weights of past items, newest first, (L,): 0.5^(number of later ones / half_life)."""
    return np.asarray(np.ones(length) if half_life is None else 0.5 ** (np.arange(length) / half_life), np.float32)


def entries(indptr: Rows, rows: Rows) -> tuple[Rows, Rows]:
    """Return where the entries of some rows of a CSR matrix stand, and how many each row has."""
    starts, lengths = indptr[rows], indptr[rows + 1] - indptr[rows]
    places = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return (places + np.arange(len(places)) if len(rows) else np.zeros(0, np.int64)), lengths


def nearest(values: NDArray[np.float64], num_wanted: int) -> Rows:
    """Return the positions of the largest values above 0, the lower position first among equals."""
    floor = np.partition(values, -num_wanted)[-num_wanted] if num_wanted < len(values) else 0.0
    rows = np.flatnonzero((values >= floor) & (values > 0))
    return rows[np.argsort(-values[rows], kind="stable")[:num_wanted]]


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
        among = _among_the_best(scores, num_wanted)
        rows = np.sort(among[np.argpartition(-scores[among], num_wanted - 1)[:num_wanted]])
    else:
        rows = np.arange(len(scores))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    rows = rows[scores[rows] > -np.inf]
    return rows, scores[rows]


def _among_the_best(scores: NDArray[np.floating[Any]], num_wanted: int) -> Rows:
    """Return rows that hold the best ones: of many scores those above a level that a sample gives."""
    every = len(scores) // NUM_SAMPLED
    if len(scores) > MAX_FULL_ITEMS and every > 1:
        sample = scores[::every]
        rank = min(len(sample), 2 * num_wanted // every + 16)
        rows = np.flatnonzero(scores >= np.partition(sample, -rank)[-rank])
        if len(rows) >= num_wanted:
            return rows
    return np.arange(len(scores))


def logits(scores: Floats, label_kind: str) -> NDArray[np.float64]:
    """Return what a ranker's scores add up as: log-odds of a probability, or a value as it is; float64."""
    values = scores.astype(np.float64)
    if label_kind != "binary":
        return values
    inside = np.clip(values, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(inside / (1 - inside)))
