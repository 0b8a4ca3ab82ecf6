"""Finds items near a user in an index and ranks them: what stands in for one graph of the whole catalogue.

The formulas are those of `lorefuse.retrieval.vectors` and `lorefuse.retrieval.index`; the reference answers that travel
with a version, and tests, hold both sides together.
"""

import json
import os

import faiss
import numpy as np
from finder import Finder, open_session
from tables import open_tables, plain

NOTHING = np.zeros(0, np.int64)


class Retriever(Finder):
    """Towers, index, item tables and ranker of one version.

    Args:
        folder: Version folder; holds `retrieval.json`, `items.faiss`, `two_tower.safetensors`,
            `item_side.npy` and `candidate_ranker.onnx`; where an older release made the version, in place of these two
            `item_tables.safetensors` and `ranker.onnx`, which takes a user once for every item.

    Raises:
        OPEN_ERRORS: A file is missing or not whole.
    """

    def __init__(self, folder):
        with open(os.path.join(folder, "retrieval.json"), encoding="utf-8") as stream:
            self.facts = json.load(stream)
        self.facts.pop("item_ids", None)
        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(os.path.join(folder, "items.faiss"))
        self.towers = open_tables(os.path.join(folder, "two_tower.safetensors"))
        offsets = self.towers["user_offsets"]
        self.user_starts, self.user_sizes = offsets[:-1], np.diff(offsets)
        path, side_path = (os.path.join(folder, name) for name in ("candidate_ranker.onnx", "item_side.npy"))
        self.repeats = not os.path.exists(path)
        if self.repeats:
            path = os.path.join(folder, "ranker.onnx")
            self.items = open_tables(os.path.join(folder, "item_tables.safetensors"))
        else:
            self.items = {"item_side": plain(np.load(side_path, mmap_mode="r"))}
        self.session = open_session(path)
        self.names = [tensor.name for tensor in self.session.get_inputs()]
        half_life, ages = self.facts["half_life"], np.arange(self.facts["history_length"])
        self.weights = (np.ones(len(ages)) if half_life is None else 0.5 ** (ages / half_life)).astype(np.float32)

    def rank(self, tensors):
        """Return rows int64 (B, K) and scores float32 (B, K).

        Best first, and the lower row first among equals; where fewer than K items remain, row -1 with score -inf.
        """
        vectors = self.user_vectors(tensors["user_fields"], tensors["liked_rows"])
        shape = (len(vectors), min(self.facts["num_returned"], self.index.ntotal))
        rows, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
        for user, vector in enumerate(vectors):
            found = self.find(vector, tensors["exclude_rows"][user])
            if not len(found):
                continue
            score = self._scores(tensors, user, found)
            best = np.argsort(-score, kind="stable")[: shape[1]]
            rows[user, : len(best)], scores[user, : len(best)] = found[best], score[best]
        return rows, scores

    def user_vectors(self, user_fields, liked_rows):
        """Return vectors of unit length, float32 (B, D); rows of liked items come newest first, -1 is padding."""
        towers, length = self.towers, len(self.weights)
        rows = np.where(user_fields < self.user_sizes, user_fields, 0) + self.user_starts
        vectors = towers["user_table"][rows].sum(1)
        for vector, rows in zip(vectors, liked_rows, strict=True):
            past = rows[:length]
            weights = np.where(past >= 0, self.weights[: len(past)], 0)
            if weights.any():
                vector += (weights / weights.sum()) @ towers["item_vectors"][past] @ towers["history"]
        return np.ascontiguousarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), "f4")

    def find(self, vector, codes):
        """Return the rows worth ranking, lowest first: all that may be shown where they are few, else the nearest.

        Args:
            vector: The user's.
            codes: `exclude_rows` of the user: a row that may not be shown, -1 for padding, or -2 - row for one that
                may; where there is one of these, no others may.
        """
        num_items, num_retrieved = self.index.ntotal, self.facts["num_retrieved"]
        listed, excluded = -2 - codes[codes <= -2], codes[(codes >= 0) & (codes < num_items)]
        if not len(listed) and len(excluded) <= num_retrieved // 2 < num_retrieved < num_items - len(excluded):
            excluded = np.unique(excluded)
            return self._search(vector, num_items - len(excluded), excluded)
        allowed = np.full(num_items, not len(listed))
        allowed[listed[listed < num_items]] = True
        allowed[excluded] = False
        num_left = int(np.count_nonzero(allowed))
        if num_left <= num_retrieved:
            return np.flatnonzero(allowed)
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        return self._search(vector, num_left, NOTHING, selector)

    def _search(self, vector, num_left, excluded, selector=None):
        """Return the nearest rows that may be shown, lowest first.

        Args:
            vector: The user's.
            num_left: How many rows may be shown: the fewer there are, the more cells are read.
            excluded: Rows that may not, in order, where they are few: so many more are fetched and these thrown away,
                which costs less than to ask about each row within the search.
            selector: Skips rows within the search, where they are many.
        """
        num_retrieved = self.facts["num_retrieved"]
        probes = -(-self.facts["num_probes"] * self.index.ntotal // num_left)
        while True:
            parameters = faiss.SearchParametersIVF(nprobe=min(probes, self.index.nlist), sel=selector)
            _, found = self.index.search(vector[None], num_retrieved + len(excluded), params=parameters)
            rows = _without(found[0], excluded)[:num_retrieved]
            if len(rows) == num_retrieved or probes >= self.index.nlist:
                return np.sort(rows)
            probes *= 2

    def _scores(self, tensors, user, rows):
        feed = {}
        for name in self.names:
            if name in self.items:
                feed[name] = self.items[name].take(rows, axis=0)
                continue
            one = tensors[name][user : user + 1]
            feed[name] = np.repeat(one, len(rows), axis=0) if self.repeats else one
        return self.session.run(["score"], feed)[0].reshape(-1)


def _without(found, excluded):
    """Return what was found, in its order, without -1, faiss's padding, and what is excluded, which is sorted."""
    rows = found[found >= 0]
    if not len(excluded):
        return rows
    return rows[excluded.take(np.searchsorted(excluded, rows), mode="clip") != rows]
