"""New data for the shop: more of the same, or a shop whose customers have turned to something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.helpers.shop import NUM_ITEMS, NUM_USERS, SPAN_S, START_S

DAY_S = 86_400


def write_more_of_the_same(shop_path: Path, path: Path, num_rows: int = 300, seed: int = 7) -> Path:
    """Write rows of pairs that the shop has not seen, rated as its own are; the first ten repeat known rows."""
    known = pd.read_csv(shop_path / "interactions.csv")
    rows = _unseen(known, num_rows, seed)
    category = pd.read_csv(shop_path / "items.csv").set_index("item_id")["category"]
    liked = known.assign(category=known["item_id"].map(category)).groupby(["user_id", "category"])["rating"].mean()
    keys = list(zip(rows["user_id"], rows["item_id"].map(category), strict=True))
    taste = np.array([liked.get(key, 3.2) for key in keys])
    random = np.random.default_rng(seed)
    rating = np.clip(np.rint(random.normal(taste, 0.8)), 1, 5).astype(int)
    rows = rows.assign(rating=rating, timestamp=_times(num_rows, seed))
    pd.concat([known.head(10), rows])[known.columns].to_csv(path, index=False)
    return path


def write_another_shop(shop_path: Path, path: Path, num_rows: int = 400, seed: int = 8) -> Path:
    """Write rows of users whom nobody knows, who like what the others disliked."""
    known = pd.read_csv(shop_path / "interactions.csv")
    rows = write_more_of_the_same(shop_path, path, num_rows, seed)
    frame = pd.read_csv(rows).iloc[10:]
    frame["user_id"] = [f"x{n % 40}" for n in range(len(frame))]
    frame["rating"] = 6 - frame["rating"]
    frame[known.columns].drop_duplicates(["user_id", "item_id"]).to_csv(path, index=False)
    return path


def write_new_items(shop_path: Path, path: Path) -> Path:
    """Write two items that the shop has not had."""
    items = pd.read_csv(shop_path / "items.csv").head(2)
    items = items.assign(item_id=["n0", "n1"], title=["Garden thing of a new kind", "Music thing of a new kind"])
    items.to_csv(path, index=False)
    return path


def _unseen(known: pd.DataFrame, num_rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    taken = {(int(user[1:]), int(item[1:])) for user, item in zip(known["user_id"], known["item_id"], strict=True)}
    free = [n for n in range(NUM_USERS * NUM_ITEMS) if (n // NUM_ITEMS, n % NUM_ITEMS) not in taken]
    pairs = random.choice(free, size=num_rows, replace=False)
    return pd.DataFrame(
        {"user_id": [f"u{n // NUM_ITEMS}" for n in pairs], "item_id": [f"i{n % NUM_ITEMS}" for n in pairs]}
    )


def _times(num_rows: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return START_S + SPAN_S + DAY_S + random.choice(20 * DAY_S, size=num_rows, replace=False)
