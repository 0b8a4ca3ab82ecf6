"""A made-up catalogue whose graph knows its genres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.data.dataset import Dataset

GENRES = ("crime", "comedy", "war", "horror")


def make_dataset(
    path: Path, *, num_items: int = 120, num_unlinked: int = 20, shuffle_links: bool = False, categories: bool = True
) -> Dataset:
    """Write a dataset where each entity shares actors with entities of its item's genre."""
    rng = np.random.default_rng(0)
    genre = np.arange(num_items) % len(GENRES)
    items = pd.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(num_items)],
            "title": [f"film {n}" for n in range(num_items)],
            "genres": [[GENRES[g]] for g in genre],
            "decade": [f"{1960 + 10 * (n % 3)}s" for n in range(num_items)],
        }
    )
    triples = [
        (f"e{n}", "starring", f"actor{genre[n]}_{rng.integers(6)}") for n in range(num_items) for _ in range(4)
    ] + [(f"director{genre[n]}_{n % 5}", "directed", f"e{n}") for n in range(num_items)]
    linked = np.arange(num_items - num_unlinked)
    target = rng.permutation(linked) if shuffle_links else linked
    frames = {
        "interactions": pd.DataFrame({"user_id": ["u"], "item_id": ["i0"], "label": [1.0]}),
        "items": items,
        "users": pd.DataFrame({"user_id": ["u"]}),
        "triples": pd.DataFrame(triples, columns=["head", "relation", "tail"]).drop_duplicates(),
        "links": pd.DataFrame({"item_id": items["item_id"][linked], "entity_id": [f"e{n}" for n in target]}),
    }
    path.mkdir(parents=True)
    for name, frame in frames.items():
        frame.to_parquet(path / f"{name}.parquet", index=False)
    roles = {"item_text": ["title"], "item_title": "title"}
    if categories:
        roles |= {"item_categories": ["decade"], "item_multi_categories": ["genres"]}
    write_json(
        path / "manifest.json", {"roles": roles, "sha256": {f.name: sha256_file(f) for f in path.glob("*.parquet")}}
    )
    return Dataset.open(path)
