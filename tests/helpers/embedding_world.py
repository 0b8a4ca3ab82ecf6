"""A small dataset with a split, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.data.dataset import Dataset

CUTOFF = "2020-01-05T00:00:00+00:00"
Row = tuple[str, str, int, int, str]


def make_world(
    path: Path, rows: Sequence[Row], *, num_items: int = 5, titles: Sequence[str] | None = None
) -> tuple[Dataset, Path]:
    """Write a dataset and a split of rows (user, item, day, label, part); item n is called ``i<n>``."""
    dataset_path, split_path = path / "dataset", path / "split"
    dataset_path.mkdir(parents=True)
    split_path.mkdir()
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "day", "label", "split"])
    frame["row_id"] = np.arange(len(frame))
    frame["event_timestamp"] = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(frame["day"], unit="D")
    frame["label"] = frame["label"].astype("float32")
    frame[["row_id", "user_id", "item_id", "event_timestamp", "label"]].to_parquet(
        dataset_path / "interactions.parquet"
    )
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(num_items)]})
    items["title"] = list(titles) if titles is not None else [f"w{n} w{n + 1}" for n in range(num_items)]
    items.to_parquet(dataset_path / "items.parquet", index=False)
    pd.DataFrame({"user_id": sorted(set(frame["user_id"]))}).to_parquet(dataset_path / "users.parquet", index=False)
    digests = {file.name: sha256_file(file) for file in dataset_path.glob("*.parquet")}
    roles = {"item_text": ["title"], "item_title": "title"}
    write_json(dataset_path / "manifest.json", {"roles": roles, "sha256": digests})
    frame[["row_id", "split"]].assign(cold=False).to_parquet(split_path / "split.parquet")
    write_json(split_path / "split.json", {"data_cutoff": CUTOFF})
    return Dataset.open(dataset_path), split_path
