"""A made-up dataset with everything that is hard for features, and the folders made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lorefuse.config import NegativesConfig, PipelineConfig, SplitConfig
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import split
from lorefuse.features.build import build_feature_data
from lorefuse.training_set.vectors import ItemVectors
from tests.helpers.knowledge import present

NUM_USERS, NUM_ITEMS, NUM_ROWS = 25, 40, 600
CONFIG = PipelineConfig()


@dataclass(frozen=True)
class World:
    """Inputs of the features steps, and the feature data made of them."""

    dataset: Dataset
    split_path: Path
    vectors: ItemVectors
    feature_data_path: Path


def make_world(
    path: Path,
    *,
    strategy: str = "global_time",
    text_dim: int = 4,
    graph_dim: int = 3,
    negatives: NegativesConfig | None = None,
) -> World:
    """Write a dataset, its split and its feature data.

    Users repeat moments (three rows a moment on average), one item has the same user twice at one moment, ids hold
    quotes and other scripts, some items have no row, no text or no entity, and some users have no train row.
    """
    dataset = _make_dataset(path / "dataset")
    split_path, feature_data_path = path / "split", path / "feature_data"
    split_path.mkdir()
    feature_data_path.mkdir()
    split(dataset, SplitConfig(strategy=strategy, cold_item_share=0.1), split_path, negatives)
    vectors = make_vectors(text_dim, graph_dim)
    build_feature_data(dataset, split_path, vectors, CONFIG, feature_data_path)
    return World(dataset, split_path, vectors, feature_data_path)


def make_vectors(text_dim: int, graph_dim: int, seed: int = 0) -> ItemVectors:
    """Return random vectors; every fifth item has no entity, the third no text."""
    rng = np.random.default_rng(seed)
    text = rng.standard_normal((NUM_ITEMS, text_dim)).astype(np.float32)
    graph = rng.standard_normal((NUM_ITEMS, graph_dim)).astype(np.float32)
    graph[::5], text[3] = 0, 0
    return ItemVectors(NUM_ITEMS, present(text=text, graph=graph), {})


def _make_dataset(path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    item_ids = [f"i'{n}" if n % 2 else f'предмет "{n}"' for n in range(NUM_ITEMS)]
    users = np.r_[rng.integers(0, NUM_USERS - 2, NUM_ROWS - 10), np.full(10, NUM_USERS - 1)]
    rows = rng.integers(0, NUM_ITEMS - 2, NUM_ROWS)  # the last two items have no row
    moment = np.r_[rng.integers(0, NUM_ROWS // 30, NUM_ROWS - 10), np.full(10, NUM_ROWS)]  # the last user is late
    value = rng.integers(1, 6, NUM_ROWS).astype(np.float32)
    stamps = pd.Series(pd.to_datetime(10**15 + moment * 10**6, unit="us", utc=True))
    events = pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in users],
            "item_id": [item_ids[n] for n in rows],
            "event_timestamp": stamps.astype("datetime64[us, UTC]"),
            "value": value,
            "label": (value >= 4).astype(np.float32),
        }
    ).sort_values(["event_timestamp", "user_id", "item_id"], kind="stable", ignore_index=True)
    events.insert(0, "row_id", np.arange(NUM_ROWS))
    items = pd.DataFrame(
        {
            "item_id": item_ids,
            "title": [f"thing {n}" for n in range(NUM_ITEMS)],
            "genres": [["a", "b", "c"][: n % 4] for n in range(NUM_ITEMS)],
            "decade": [f"{1960 + 10 * (n % 3)}s" for n in range(NUM_ITEMS)],
        }
    )
    frames = {
        "interactions": events,
        "items": items,
        "users": pd.DataFrame(
            {"user_id": [f"u{n}" for n in range(NUM_USERS)], "gender": [*"fmfmf"] * (NUM_USERS // 5)}
        ),
    }
    path.mkdir(parents=True)
    for name, frame in frames.items():
        frame.to_parquet(path / f"{name}.parquet", index=False)
    roles = {
        "item_text": ["title"],
        "item_title": "title",
        "item_categories": ["decade"],
        "item_multi_categories": ["genres"],
        "user_categories": ["gender"],
    }
    digests = {file.name: sha256_file(file) for file in path.glob("*.parquet")}
    write_json(path / "manifest.json", {"roles": roles, "sha256": digests})
    return Dataset.open(path)
