"""Make interactions with a real power law, as many as asked, written chunk by chunk: `python benchmarks/generate.py`.

Users and items are drawn by Zipf-Mandelbrot laws, p(rank) ∝ (rank + q)^−s, as catalogues and audiences have them: a few
items take most of the rows and most users have few. Users differ in how generous they are and items in how good,
and each user likes some genres more, so that there is something to learn. A row's pair of user and item may come
again at another moment, as in logs. The same seed gives the same bytes, whatever the chunk.

    python benchmarks/generate.py --rows 1000000 --out /data/shop-1m
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

CHUNK_ROWS = 1 << 20
EXPONENT, SHIFT = 1.05, 10.0
"""s and q of both laws. At 1 million rows the top 1 % of items has about two fifths of them."""
NUM_GENRES = 20
FIRST_S, DAYS = 1_546_300_800, 5 * 365
"""2019-01-01 UTC, and how long the log runs."""


def generate(out_path: Path, num_rows: int, num_users: int, num_items: int, seed: int = 0) -> dict[str, float]:
    """Write `interactions.parquet` and `items.parquet`; memory does not grow with the number of rows.

    Args:
        out_path: Folder to fill.
        num_rows: Interactions.
        num_users: Users that may be drawn; the last ones of a long tail may have no row.
        num_items: Items of the catalogue.
        seed: Of everything drawn.

    Returns:
        Counts, and the share of rows that the top 1 % of items and users have.
    """
    out_path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    genre_of = rng.integers(0, NUM_GENRES, num_items)
    quality, kindness = rng.normal(0, 0.5, num_items), rng.normal(0, 0.4, num_users)
    favourite = rng.integers(0, NUM_GENRES, num_users)
    # Ids say nothing of the rank: an item's or user's place in the law is shuffled.
    items, users = Law(num_items, rng), Law(num_users, rng)
    titles = pa.array([f"Film {n} of genre {genre}" for n, genre in enumerate(genre_of)])
    table = {"item_id": ids("i", np.arange(num_items)), "title": titles, "genre": ids("g", genre_of)}
    pq.write_table(pa.table(table), out_path / "items.parquet")
    item_rows, user_rows = np.zeros(num_items, np.int64), np.zeros(num_users, np.int64)
    schema = pa.schema(
        [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64()), ("rating", pa.float32())]
    )
    with pq.ParquetWriter(out_path / "interactions.parquet", schema) as writer:
        for first in range(0, num_rows, CHUNK_ROWS):
            size = min(CHUNK_ROWS, num_rows - first)
            chunk = np.random.default_rng([seed, first])
            user, item = users.draw(size, chunk), items.draw(size, chunk)
            liking = kindness[user] + quality[item] + 0.8 * (favourite[user] == genre_of[item])
            rating = np.clip(np.round(2 * (3.4 + liking + chunk.normal(0, 0.8, size))) / 2, 0.5, 5.0)
            # Microseconds, so that rows rarely share a moment; chunks follow each other in time.
            share = np.sort(chunk.random(size))
            time = (FIRST_S * 10**6 + (first + share * size) / num_rows * DAYS * 86_400 * 1e6).astype(np.int64)
            columns = [ids("u", user), ids("i", item), pa.array(time), pa.array(rating.astype(np.float32))]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            item_rows += np.bincount(item, minlength=num_items)
            user_rows += np.bincount(user, minlength=num_users)
    return {
        "num_rows": num_rows,
        "num_users": int((user_rows > 0).sum()),
        "num_items": int((item_rows > 0).sum()),
        "top_item_share": _top(item_rows),
        "top_user_share": _top(user_rows),
    }


class Law:
    """Draws indices 0 … n − 1 by a Zipf-Mandelbrot law over shuffled ranks."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self._index = rng.permutation(size)
        weight = (np.arange(size) + 1 + SHIFT) ** -EXPONENT
        self._up_to = np.cumsum(weight / weight.sum())

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` indices."""
        rank = np.minimum(np.searchsorted(self._up_to, rng.random(count)), len(self._index) - 1)
        drawn: NDArray[np.int64] = self._index[rank]
        return drawn


def ids(prefix: str, numbers: NDArray[np.int64]) -> pa.Array:
    """Return numbers as text with a prefix."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")


def _top(rows: NDArray[np.int64]) -> float:
    ordered = np.sort(rows)[::-1]
    return round(float(ordered[: max(1, len(rows) // 100)].sum() / max(ordered.sum(), 1)), 3)


def main() -> None:
    """Parse arguments and generate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, help="Default: a hundred and fiftieth of the rows")
    parser.add_argument("--items", type=int, help="Default: a four hundredth of the rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    num_users, num_items = given.users or given.rows // 150, given.items or given.rows // 400
    print(json.dumps(generate(given.out, given.rows, num_users, num_items, given.seed)))


if __name__ == "__main__":
    main()
