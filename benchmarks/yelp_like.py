"""Make data shaped like Yelp's: users' businesses with names, texts and some thousand categories, from a power law.

Users, items and rows are asked for; who takes what follows the laws of `generate.py`, with tastes by category, so that
there is something to learn. Each item carries a few categories: a frequent one (Restaurants) and rarer ones. The same
seed gives the same bytes.

    python benchmarks/yelp_like.py --out /data/yelp-like
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from generate import Law, ids
from numpy.typing import NDArray

NUM_ROWS, NUM_USERS, NUM_ITEMS, NUM_CATEGORIES = 316_354, 30_431, 20_033, 3_000
NUM_WORDS, MIN_ROWS, MAX_DRAWS = 6_000, 5, 20
"""Words of all texts; rows that each user has at least, as in a 5-core; and draws until enough pairs differ."""


def make(
    out_path: Path,
    num_rows: int = NUM_ROWS,
    num_users: int = NUM_USERS,
    num_items: int = NUM_ITEMS,
    num_categories: int = NUM_CATEGORIES,
    seed: int = 0,
) -> dict[str, int]:
    """Write `interactions.parquet` (user_id, item_id, position) and `items.parquet` (item_id, title, categories).

    Args:
        out_path: Folder to fill.
        num_rows: Interactions, at least `MIN_ROWS` times the users; a pair of user and item comes once.
        num_users: Users.
        num_items: Items.
        num_categories: Categories that items may have.
        seed: Of everything drawn.

    Returns:
        Counts of what was written.
    """
    out_path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    category_of = _categories(num_items, num_categories, rng)
    _write_items(out_path / "items.parquet", category_of, rng)
    favourite = category_of[rng.integers(0, num_items, num_users), 1]
    law, pairs = Law(num_users, rng), np.zeros((0, 2), np.int64)
    for _ in range(MAX_DRAWS):  # a pair that is drawn again is drawn anew
        short = np.maximum(MIN_ROWS - np.bincount(pairs[:, 0], minlength=num_users), 0)
        user = np.repeat(np.arange(num_users), short)
        user = np.concatenate([user, law.draw(max(0, num_rows - len(pairs) - len(user)), rng)])
        drawn = np.stack([user, _taken(user, category_of, favourite, rng)], axis=1)
        pairs = np.unique(np.concatenate([pairs, drawn]), axis=0)
    pairs = pairs[rng.permutation(len(pairs))]  # a user's order is not the order of the catalogue
    columns = {"user_id": ids("u", pairs[:, 0]), "item_id": ids("i", pairs[:, 1])}
    columns["position"] = pa.array(np.arange(len(pairs)))
    pq.write_table(pa.table(columns), out_path / "interactions.parquet")
    counts = {"rows": len(pairs), "users": len(np.unique(pairs[:, 0])), "items": len(np.unique(pairs[:, 1]))}
    return {**counts, "categories": len(np.unique(category_of))}


def _categories(num_items: int, num_categories: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return four categories of each item, some of them twice, (N, 4): a common one, and three from the long tail."""
    common = Law(20, rng).draw(num_items, rng)
    rare = 20 + Law(num_categories - 20, rng).draw(3 * num_items, rng)
    return np.concatenate([common[:, None], rare.reshape(num_items, 3)], axis=1)


def _taken(
    user: NDArray[np.int64], category_of: NDArray[np.int64], favourite_of: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return an item for each row: for two thirds of them one that has the user's favourite rare category."""
    item = Law(len(category_of), rng).draw(len(user), rng)
    order = np.argsort(category_of[:, 1], kind="stable")
    favourite = favourite_of[user]
    first, end = (np.searchsorted(category_of[order, 1], favourite, side) for side in ("left", "right"))
    near = order[first + (rng.random(len(user)) * (end - first)).astype(np.int64)]
    return np.where(rng.random(len(user)) < 2 / 3, near, item)


def _write_items(path: Path, category_of: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Write the items; a title's words are drawn around its rarest category, so that texts mean something."""
    num_items = len(category_of)
    words = (category_of[:, 1:2] * 2 + rng.integers(0, 8, (num_items, 3))) % NUM_WORDS
    other = Law(NUM_WORDS, rng).draw(3 * num_items, rng).reshape(num_items, 3)
    titles = [" ".join(f"word{word}" for word in row) for row in np.concatenate([words, other], axis=1)]
    categories = [[f"category {number}" for number in dict.fromkeys(row)] for row in category_of.tolist()]
    table = {"item_id": ids("i", np.arange(num_items)), "title": pa.array(titles), "categories": pa.array(categories)}
    pq.write_table(pa.table(table), path)


def main() -> None:
    """Parse arguments and make the data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=NUM_ROWS)
    parser.add_argument("--users", type=int, default=NUM_USERS)
    parser.add_argument("--items", type=int, default=NUM_ITEMS)
    parser.add_argument("--categories", type=int, default=NUM_CATEGORIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    print(json.dumps(make(given.out, given.rows, given.users, given.items, given.categories, given.seed)))


if __name__ == "__main__":
    main()
