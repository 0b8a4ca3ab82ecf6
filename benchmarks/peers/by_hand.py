"""The served model as one would write it without Lorefuse: Feast's SDK, onnxruntime and, past one graph, faiss.

It shares the model with ours (the ranker as torch.onnx exports it, item tensors, the faiss index with its number of
cells to read) and no code of how we serve it. Like ours it keeps the item tensors in memory, runs on one thread, ranks
the whole catalogue or what faiss finds, and leaves out what the user has seen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from lorefuse.feature_store.store import open_store
from lorefuse.retrieval.vectors import TowerArrays, recency

USER_KEY = "user_id"


class ByHand:
    """A model version in this process.

    Args:
        folder_path: `direct/<version>` of a model repository: names, defaults, titles.
        bundle_path: Its bundle: ranker, item tensors, towers and index.
        store_path: Feast's repository.
    """

    def __init__(self, folder_path: Path, bundle_path: Path, store_path: Path) -> None:
        from safetensors.numpy import load_file

        facts = json.loads((folder_path / "features.json").read_text("utf-8"))
        self.fields = [
            (name, {value: row + 1 for row, value in enumerate(values)}) for name, values in facts["user_fields"]
        ]
        self.numeric, self.interest = facts["user_numeric"], facts["interest"]
        self.history_length, self.num_liked = facts["history_length"], facts["num_liked"]
        self.row_of = {item_id: row for row, item_id in enumerate(facts["item_ids"])}
        self.item_ids = facts["item_ids"]
        self.titles = json.loads((folder_path / "answer.json").read_text("utf-8"))["titles"]
        self.version = folder_path.name
        self.store = open_store(store_path)
        self.wanted = [f"{view}:{name}" for view, names in facts["views"].items() for name in names]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            bundle_path / "ranker.onnx", options, providers=["CPUExecutionProvider"]
        )
        inputs = {tensor.name for tensor in self.session.get_inputs()}
        tables = load_file(bundle_path / "item_tables.safetensors")
        self.items = {name: table for name, table in tables.items() if name in inputs}
        self.user_names = sorted(inputs - set(self.items))
        self.search = Search(bundle_path, self.row_of) if facts["retrieves"] else None

    def recommend(self, user_id: str, k: int) -> dict[str, Any]:
        """Return ids, titles and scores of the best k items, and the titles of what the user liked."""
        columns = self.store.get_online_features(self.wanted, [{USER_KEY: user_id}]).to_dict()
        features = {name: values[0] for name, values in columns.items() if values[0] is not None}
        tensors = self.user_tensors({**features, USER_KEY: user_id})
        seen = [self.row_of[item] for item in features.get("seen", ()) if item in self.row_of]
        liked = features.get("recent_liked", [])[::-1]
        rows, scores = self.rank(tensors, seen, liked, k)
        return {
            "item_id": [self.item_ids[row] for row in rows],
            "title": [self.titles[row] for row in rows],
            "score": scores.tolist(),
            "liked_title": [self.titles[self.row_of[item]] for item in liked[: self.num_liked] if item in self.row_of],
            "model_version": self.version,
        }

    def user_tensors(self, features: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return the ranker's user tensors, one row each."""
        recent = [self.row_of.get(item, -1) + 1 for item in features.get("recent_liked", ())]
        recent = recent[max(0, len(recent) - self.history_length) :]
        vectors = [features.get(name, [0.0] * dim) for name, dim in self.interest]
        tensors = {
            "user_fields": np.array([[table.get(features.get(name, ""), 0) for name, table in self.fields]]),
            "user_numeric": np.array([[features.get(name, value) for name, value in self.numeric]], np.float32),
            "user_interest": np.array([np.concatenate(vectors) if vectors else []], np.float32),
            "user_history": np.array([[0] * (self.history_length - len(recent)) + recent]),
        }
        return {name: tensors[name] for name in self.user_names}

    def rank(
        self, tensors: dict[str, np.ndarray], seen: list[int], liked: list[str], k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k rows of the catalogue and their scores."""
        found = None if self.search is None else self.search.find(tensors["user_fields"], seen, liked)
        items = self.items if found is None else {name: table[found] for name, table in self.items.items()}
        num_rows = len(self.item_ids) if found is None else len(found)
        users = {name: np.repeat(array, num_rows, axis=0) for name, array in tensors.items()}
        scores = self.session.run(["score"], {**users, **items})[0].reshape(-1)
        if found is None:
            scores[seen] = -np.inf
        best = np.argpartition(-scores, k)[:k]
        best = best[np.argsort(-scores[best], kind="stable")]
        return best if found is None else found[best], scores[best]


class Search:
    """Finds some hundred items for a user.

    Args:
        bundle_path: Holds towers and index.
        row_of: Item id → row.
    """

    def __init__(self, bundle_path: Path, row_of: dict[str, int]) -> None:
        import faiss

        self.row_of = row_of
        self.facts = json.loads((bundle_path / "retrieval.json").read_text("utf-8"))
        self.towers = TowerArrays.load(bundle_path)
        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(str(bundle_path / "items.faiss"))
        self.index.nprobe = self.facts["num_probes"]
        self.weights = recency(self.facts["history_length"], self.facts["half_life"])[None]

    def find(self, user_fields: np.ndarray, seen: list[int], liked: list[str]) -> np.ndarray:
        """Return the rows nearest to the user that they have not seen: as many more are fetched as are thrown away."""
        past = np.full(self.weights.shape, -1)
        rows = [self.row_of.get(item, -1) for item in liked[: past.shape[1]]]
        past[0, : len(rows)] = rows
        vector = self.towers.users(user_fields, past, self.weights)
        num_retrieved = self.facts["num_retrieved"]
        _, found = self.index.search(vector, num_retrieved + len(seen))
        kept = found[0][(found[0] >= 0) & ~np.isin(found[0], seen)]
        return kept[:num_retrieved]
