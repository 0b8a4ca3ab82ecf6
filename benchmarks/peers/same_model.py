"""The served model outside Triton, for the peers: the same features code, the same catalogue, the same answers.

Peers replace where features are read (`users.store`) and what scores (`rank`).
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np


def _stand_in_for_tritons_module() -> None:
    """Let the version's own files be imported."""
    module = types.ModuleType("triton_python_backend_utils")
    module.TritonModelException = RuntimeError
    sys.modules[module.__name__] = module


class SameModel:
    """A deployed version in this process.

    Args:
        folder_path: `direct/<version>` of a model repository.
    """

    def __init__(self, folder_path: Path) -> None:
        _stand_in_for_tritons_module()
        sys.path.insert(0, str(folder_path))
        from answers import Answers
        from users import Users

        self.users, self.answers = Users(str(folder_path)), Answers(str(folder_path), folder_path.name)
        self._graph = self._open(folder_path)

    def _open(self, folder_path: Path) -> Any:
        """Past one graph a faiss index finds what the ranker's graph scores."""
        if self.users.facts["retrieves"]:
            from retriever import Retriever

            return Retriever(str(folder_path), self.users.catalogue.row_of)
        from graph import Graph

        return Graph(str(folder_path / "model.onnx"), self.users.catalogue.num_items)

    def recommend(self, user_id: str, k: int) -> dict[str, np.ndarray]:
        """Return all outputs for one user."""
        inputs = {"user_id": np.array([[user_id.encode()]], object), "k": np.array([[k]], np.int32)}
        tensors = self.users.tensors(inputs)
        rows, scores = self.rank(tensors, k)
        return self.answers.tensors(rows, scores, tensors["k"], tensors["liked_item_id"])

    def rank(self, tensors: dict[str, np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores, best first, (1, at least k): the catalogue's graph with onnxruntime, or faiss."""
        ranked: tuple[np.ndarray, np.ndarray] = self._graph.run({0: tensors})[0]
        return ranked


def as_json(answer: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the answer for its one user as what JSON can hold."""
    return {
        name: [value.decode() if isinstance(value, bytes) else float(value) for value in array[0]]
        for name, array in answer.items()
    }
