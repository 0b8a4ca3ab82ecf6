"""FastAPI around the served model, as one would write it without Lorefuse: `GET /recommend/<user>?k=10`.

What answers is `by_hand`, which shares the model with ours and no code, or, to tell the server's share from the
model's, the torch module or our own graph in ours.

FastAPI, uvicorn, torch, Feast and onnxruntime are the ones of the product's lock (MLflow and Feast bring the first
two), so this peer needs no environment of its own. uvicorn runs with uvloop and httptools; the handler is a plain
function, as FastAPI's documentation advises for code that blocks, and runs in its thread pool.

    python fastapi_runner.py --port 9000 --version-folder …/direct/1 --bundle … --store … --score torch --features feast
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from by_hand import ByHand
from same_model import SameModel, as_json


class FeastFeatures:
    """Features of users through Feast's SDK, `get_online_features` per request."""

    def __init__(self, store_path: Path, views: dict[str, list[str]]) -> None:
        from lorefuse.feature_store.store import open_store

        self.store = open_store(store_path)
        self.wanted = [f"{view}:{name}" for view, names in views.items() for name in names]

    def read(self, key: str, entity_ids: list[str]) -> list[dict[str, Any]]:
        """Return the features of some users, name → value."""
        columns = self.store.get_online_features(self.wanted, [{key: entity_id} for entity_id in entity_ids]).to_dict()
        columns.pop(key)
        return [
            {name: values[row] for name, values in columns.items() if values[row] is not None}
            for row in range(len(entity_ids))
        ]


class TorchModel(SameModel):
    """Scores the catalogue with the torch module: a row per item, as it was trained."""

    def __init__(self, folder_path: Path, bundle_path: Path) -> None:
        import torch

        from lorefuse.export.bundle import TABLES_FILE, Bundle
        from lorefuse.models.build import load_ranker

        super().__init__(folder_path)
        torch.set_num_threads(1)
        self.torch, self.ranker = torch, load_ranker(bundle_path).eval()
        tables = Bundle.load(bundle_path).arrays(TABLES_FILE)
        self.items = {name: torch.from_numpy(tables[name]) for name in self.ranker.item_inputs}
        self.num_items = len(self.items["item_fields"])

    def rank(self, tensors: dict[str, np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k rows and their scores."""
        torch = self.torch
        with torch.inference_mode():
            names = list(self.ranker.user_inputs)
            users = {name: torch.from_numpy(tensors[name]).expand(self.num_items, -1) for name in names}
            logits = self.ranker(**users, **self.items)
            excluded = torch.from_numpy(tensors["exclude_rows"][0])
            logits[excluded[excluded >= 0]] = -torch.inf
            best, rows = torch.topk(logits, k)
            return rows.numpy()[None], self.ranker.to_score(best).numpy()[None]


def main() -> None:
    """Serve until ended."""
    import uvicorn
    from fastapi import FastAPI

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version-folder", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--score", choices=["by_hand", "torch", "graph"], required=True)
    parser.add_argument("--features", choices=["feast", "reader"], required=True)
    args = parser.parse_args()
    answer = _answer(args)
    app = FastAPI()

    @app.get("/recommend/{user_id}")
    def recommend(user_id: str, k: int = 10) -> dict[str, Any]:
        return answer(user_id, k)

    uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning", access_log=False)


def _answer(args: argparse.Namespace) -> Callable[[str, int], dict[str, Any]]:
    if args.score == "by_hand":
        return ByHand(args.version_folder, args.bundle, args.store).recommend
    model = TorchModel(args.version_folder, args.bundle) if args.score == "torch" else SameModel(args.version_folder)
    if args.features == "feast":
        model.users.store = FeastFeatures(args.store, model.users.facts["views"])
    return lambda user_id, k: as_json(model.recommend(user_id, k))


if __name__ == "__main__":
    main()
