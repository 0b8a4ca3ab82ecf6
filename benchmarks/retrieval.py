"""Recommenders that rank a whole catalogue, side by side on Amazon Beauty: is text worth anything, and to whom?

Leave-last-out: a user's last like is the test part, the one before it validation. 12 % of the items are held out:
their train rows are left out, so that their test likes are cold. Every like is ranked against all items that the user
has not seen. Weights are fitted on train and stopped on validation; a user is served with the likes of both as history.

    python benchmarks/retrieval.py [--data ../shared/data/amazon-beauty] [--num-seeds 3] [--num-threads 2]
                                   [--only NAME ...]

The control of a text gain is the category path, which the text repeats: the same cosine and the same hybrid over
categories as vectors of ones and zeros.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import EmbeddingConfig, RetrievalConfig
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.embedding.embed import embed_texts
from lorefuse.retrieval.build import build_recommender
from lorefuse.retrieval.data import RetrievalData, from_rows
from lorefuse.retrieval.evaluate import RetrievalReport, evaluate_retrieval, interval
from lorefuse.retrieval.recommender import Recommender, Side

COLD_ITEM_SHARE = 0.12
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        make: Config and seed → recommender.
        text: Item vectors it reads: ``title``, ``category`` or none.
        recency: Whether older likes of a served user count less.
        against: Row whose users it is compared with, pairwise.
        trained: Whether each seed gives another one.
    """

    make: Callable[[RetrievalConfig, int], Recommender]
    text: str = "none"
    recency: bool = True
    against: str | None = None
    trained: bool = False


def named(name: str, **update: object) -> Callable[[RetrievalConfig, int], Recommender]:
    """Return a maker of a recommender by its name, some settings changed; ``part__field`` reaches into a section."""

    def make(config: RetrievalConfig, seed: int) -> Recommender:
        for key, value in update.items():
            part, _, field = key.partition("__")
            changed = getattr(config, part).model_copy(update={field: value}) if field else value
            config = config.model_copy(update={part: changed})
        return build_recommender(name, config, seed)  # type: ignore[arg-type]

    return make


CASES: dict[str, Case] = {
    "popularity": Case(named("popularity")),
    "item_knn": Case(named("item_knn")),
    "user_knn": Case(named("user_knn")),
    "ease, all likes the same": Case(named("ease"), recency=False),
    "ease": Case(named("ease"), against="ease, all likes the same"),
    "zero-shot text": Case(named("content", content_centre=False), text="title", recency=False),
    "content": Case(named("content"), text="title", against="zero-shot text"),
    "content of categories": Case(named("content"), text="category"),
    "hybrid": Case(named("hybrid"), text="title", against="ease"),
    "hybrid of categories": Case(named("hybrid"), text="category", against="ease"),
    "two_tower, ids": Case(named("two_tower"), trained=True),
    "two_tower": Case(named("two_tower"), text="title", trained=True, against="two_tower, ids"),
    "light_gcn, ids": Case(named("light_gcn"), trained=True),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("LOREFUSE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=shared / "amazon-beauty")
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--num-threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    if not (args.data / "interactions.parquet").is_file():
        print(f"retrieval: SKIPPED, {args.data} holds no interactions.parquet (set LOREFUSE_SHARED_DATA)")
        sys.exit(0)
    threads = {"num_threads": args.num_threads}
    config = RetrievalConfig(two_tower=threads, light_gcn=threads)
    beauty = Beauty(args.data, args.num_threads)
    print("row | NDCG@10 warm | Recall@20 warm | NDCG@10 cold | Recall@20 cold | coverage | novelty | s | gain")
    reports: dict[str, RetrievalReport] = {}
    for name in args.only:
        case, start_s = CASES[name], time.perf_counter()
        half_life = config.recency_half_life if case.recency else None
        data, validation = (beauty.data(part, half_life, case.text) for part in (Split.TEST, Split.VALIDATION))
        reports[name] = evaluate_retrieval(
            partial(case.make, config),
            data,
            seeds=tuple(range(args.num_seeds)) if case.trained else (0,),
            k=config.k,
            recall_k=config.recall_k,
            num_bootstraps=config.num_bootstraps,
            validation=validation,
        )
        print(row_of(name, reports[name], time.perf_counter() - start_s, reports.get(case.against or "")), flush=True)


def row_of(name: str, report: RetrievalReport, elapsed_s: float, base: RetrievalReport | None) -> str:
    """Return a row of the table; the gain is that of NDCG over the row it is compared with."""
    cells = [name]
    for metric in ("ndcg_at_10_warm", "recall_at_20_warm", "ndcg_at_10_cold", "recall_at_20_cold"):
        estimate = report.estimates[metric]
        spread = f" ± {np.std(estimate.per_seed):.4f}" if len(estimate.per_seed) > 1 else ""
        cells.append(f"{estimate.mean:.4f}{spread} [{estimate.low:.4f}, {estimate.high:.4f}]")
    gains = []
    for metric in ("ndcg_at_10_warm", "ndcg_at_10_cold"):
        if base is None:
            continue
        gain_U = report.values[metric] - base.values[metric]
        gain_U = gain_U[np.isfinite(gain_U)]
        low, high = interval(gain_U, 1000)
        gains.append(f"{metric.rpartition('_')[2]} {gain_U.mean():+.4f} [{low:+.4f}, {high:+.4f}]")
    return " | ".join([*cells, f"{report.coverage:.3f}", f"{report.novelty:.2f}", f"{elapsed_s:.0f}", ", ".join(gains)])


class Beauty:
    """Amazon Beauty with its split and its item vectors.

    Args:
        path: Folder of `interactions.parquet` (user_id, item_id, position) and `items.parquet` (item_id, title,
            categories).
        num_threads: For the encoder.
    """

    def __init__(self, path: Path, num_threads: int) -> None:
        rows, items = (pd.read_parquet(path / f"{name}.parquet") for name in ("interactions", "items"))
        self.num_users, self.num_items = rows["user_id"].nunique(), len(items)
        self.user_row = pd.factorize(rows["user_id"], sort=True)[0]
        self.item_row = pd.Index(items["item_id"]).get_indexer(rows["item_id"])
        self.position = rows["position"].to_numpy()
        num_later = rows.groupby("user_id")["position"].transform("max").to_numpy() - self.position
        parts = np.array([SPLIT_CODES[Split.TEST], SPLIT_CODES[Split.VALIDATION], SPLIT_CODES[Split.TRAIN]])
        item_ids = np.sort(rows["item_id"].unique().astype(str))
        num_held_out = int(COLD_ITEM_SHARE * len(item_ids))
        held_out = np.random.default_rng(0).choice(item_ids, num_held_out, replace=False)
        code = parts[np.minimum(num_later, 2)]
        excluded = rows["item_id"].isin(held_out).to_numpy() & (code == SPLIT_CODES[Split.TRAIN])
        self.split_code = np.where(excluded, SPLIT_CODES[Split.EXCLUDED], code)
        titles = items["title"].fillna("").tolist()
        self.vectors = {
            "title": embed_texts(titles, EmbeddingConfig(num_threads=num_threads))[0],
            "category": categories_of(items["categories"]),
        }

    def data(self, judged: Split, recency_half_life: float | None, text: str) -> RetrievalData:
        """Return the split with some item vectors."""
        return from_rows(
            self.user_row,
            self.item_row,
            self.position,
            np.ones(len(self.user_row), dtype=bool),
            self.split_code,
            num_users=self.num_users,
            num_items=self.num_items,
            judged=judged,
            recency_half_life=recency_half_life,
            side=Side().with_text(self.vectors.get(text)),
        )


def categories_of(paths_of_items: pd.Series) -> Vectors:
    """Return ones at each item's categories, every level of its paths, (N, categories)."""
    levels = [
        {tuple(path[: end + 1]) for path in (text.split(" > ") for text in paths) for end in range(len(path))}
        for paths in paths_of_items
    ]
    index = {level: column for column, level in enumerate(sorted(set().union(*levels)))}
    vectors = np.zeros((len(levels), len(index)), dtype=np.float32)
    for row, found in enumerate(levels):
        vectors[row, [index[level] for level in found]] = 1
    return vectors


if __name__ == "__main__":
    main()
