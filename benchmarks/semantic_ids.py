"""Do codes of the text pay as item input? Residual and product codes in SASRec, beside ids and ids with text.

Codes are made from the encoder's vectors of train items: by residual k-means, level by level (the semantic ids of
TIGER), or by k-means of each part of the rotated vectors (the parallel codes of RPG). An item's vector is then the mean
of its codes' embeddings, learned with the rest of SASRec; an item without a like has one too. As a control the same
product codes go to other items.

    python benchmarks/semantic_ids.py [--data ../shared/data/amazon-scientific-small] [--num-seeds 2] [--num-threads 1]
                                      [--only NAME ...] [--quick]

Protocol, sizes and stopping as in `benchmarks/public_tables.py`; validation chooses, test is read once a row.

Suffixes: ``N`` items, ``E`` width of a text vector, ``M`` codes of an item, ``C`` codebook size.

Source: TIGER, arXiv:2305.05065, section 3.1, with k-means in place of its RQ-VAE; RPG, arXiv:2506.05781, section 3.1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from public_tables import SHARED_SIZES, Result, Task, is_public, leave_one_out, result_of, show
from scipy.sparse import csr_array

from lorefuse.config.retrieval import SASRecConfig
from lorefuse.core.schema import Split
from lorefuse.retrieval.evaluate import ndcg_of
from lorefuse.retrieval.recommender import Side, recommend
from lorefuse.retrieval.sasrec import SASRec
from lorefuse.retrieval.sequence_encoder import SequenceItems
from lorefuse.retrieval.tables import Knowledge

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]
ITEMS_PER_CODE, MAX_CODEBOOK = 8, 256
"""A codebook has the power of two that leaves each code at least so many train items, and no more than the papers'."""
NUM_LEVELS, NUM_PARTS = 3, 32
"""Residual levels (TIGER's), and parts of a product code (RPG's best are 16 to 64)."""


@dataclass(frozen=True)
class Coded:
    """Codes of all items.

    Attributes:
        codes: int64 (N, M).
        decoded: float32 (N, E), the vectors that the codes stand for.
    """

    codes: Codes
    decoded: Vectors


def kmeans(vectors: Vectors, fit_rows: Codes, size: int, seed: int) -> tuple[Codes, Vectors]:
    """Return the nearest of `size` centroids of each vector, (N,), and the centroids, (C, ·)."""
    import faiss

    found: Any = faiss.Kmeans(vectors.shape[1], size, niter=25, seed=seed, min_points_per_centroid=1)
    found.train(np.ascontiguousarray(vectors[fit_rows]))
    _, nearest = found.index.search(np.ascontiguousarray(vectors), 1)
    return nearest[:, 0].astype(np.int64), np.asarray(found.centroids, np.float32)


def residual_codes(vectors_NE: Vectors, fit_rows: Codes, size: int, seed: int) -> Coded:
    """Code vectors level by level: each level is a k-means of what the levels before it leave over.

    Args:
        vectors_NE: Text vectors.
        fit_rows: Items that the codebooks are fitted on.
        size: C.
        seed: Of the first centroids.
    """
    codes, decoded = [], np.zeros_like(vectors_NE)
    for level in range(NUM_LEVELS):
        nearest, centroids = kmeans(vectors_NE - decoded, fit_rows, size, seed + level)
        codes.append(nearest)
        decoded = decoded + centroids[nearest]
    return Coded(np.stack(codes, axis=1), decoded)


def product_codes(vectors_NE: Vectors, fit_rows: Codes, size: int, seed: int) -> Coded:
    """Code each part of the vectors by a k-means of its own, after the rotation that loses least (OPQ)."""
    import faiss

    width = vectors_NE.shape[1]
    untyped: Any = faiss  # its type stubs do not know all of it
    rotation = untyped.OPQMatrix(width, NUM_PARTS)
    rotation.pq = untyped.ProductQuantizer(width, NUM_PARTS, int(np.log2(size)))
    rotation.niter = 20
    rotation.train(np.ascontiguousarray(vectors_NE[fit_rows]))
    turned_NE = rotation.apply(np.ascontiguousarray(vectors_NE))
    codes, parts = [], []
    for number, part in enumerate(np.split(turned_NE, NUM_PARTS, axis=1)):
        nearest, centroids = kmeans(part, fit_rows, size, seed + number)
        codes.append(nearest)
        parts.append(centroids[nearest])
    return Coded(np.stack(codes, axis=1), rotation.reverse_transform(np.concatenate(parts, axis=1)))


def facts_of(coded: Coded, vectors_NE: Vectors, size: int) -> dict[str, float]:
    """Return how well codes tell items apart.

    Returns:
        unique (share of items whose codes no other item has), used (share of the codes that some item has),
        perplexity_first and perplexity_last (of the first and last level: C where all codes are as frequent), and error
        (squared distance to what the codes stand for, beside the variance).
    """
    _, item, count = np.unique(coded.codes, axis=0, return_inverse=True, return_counts=True)
    shares = [np.bincount(level, minlength=size) / len(level) for level in coded.codes.T]
    perplexity = [float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())) for share in shares]
    variance = np.square(vectors_NE - vectors_NE.mean(axis=0)).sum()
    return {
        "unique": float((count[item.ravel()] == 1).mean()),
        "used": float(np.mean([(share > 0).mean() for share in shares])),
        "perplexity_first": perplexity[0],
        "perplexity_last": perplexity[-1],
        "error": float(np.square(vectors_NE - coded.decoded).sum() / variance),
    }


class CodedSASRec(SASRec):
    """SASRec whose items are the mean of their codes' embeddings, and of nothing else.

    Args:
        config: As for `SASRec`.
        seed: As there.
        codes: int64 (N, M).
    """

    def __init__(self, config: SASRecConfig, seed: int, codes: Codes) -> None:
        super().__init__(config, seed)
        self.codes = codes

    def _prepare(self, train_UN: csr_array, side: Side) -> None:
        super()._prepare(train_UN, side)
        nothing = Knowledge(torch.zeros(len(self.codes), 0))
        items = SequenceItems(torch.from_numpy(self.codes), nothing, self.config.embedding_dim, 0.0)
        items.fields.table.detach().mul_(self.codes.shape[1] ** -0.5)  # as long as an id's vector at the start
        self.encoder.items = items


Make = Callable[[SASRecConfig, int], SASRec]


@dataclass(frozen=True)
class Row:
    """A row of the table: which recommender, and what its items bring."""

    make: Make
    text: bool = False
    codes: Codes | None = None


def rows_of(product: Coded, residual: Coded) -> dict[str, Row]:
    """Return the rows of the table."""

    def plain(mode: str) -> Make:
        return lambda config, seed: SASRec(config.model_copy(update={"item_mode": mode}), seed)

    def coded(codes: Codes) -> Make:
        return lambda config, seed: CodedSASRec(config, seed, codes)

    others = np.random.default_rng(0).permutation(product.codes)
    return {
        "ids": Row(plain("ids")),
        "ids from text": Row(plain("text_init"), text=True),
        "ids + text": Row(plain("fused"), text=True),
        "residual codes": Row(coded(residual.codes)),
        "product codes": Row(coded(product.codes)),
        "product codes of other items": Row(coded(others)),
        "ids + residual codes": Row(plain("fused"), codes=residual.codes),
        "ids + product codes": Row(plain("fused"), codes=product.codes),
        "ids + text + product codes": Row(plain("fused"), text=True, codes=product.codes),
    }


def main() -> None:
    """Print what the codes are like, and the table."""
    args = arguments()
    if not is_public(args.data):
        print(f"semantic_ids: SKIPPED, {args.data} holds no public data (set LOREFUSE_SHARED_DATA)")
        sys.exit(0)
    task = leave_one_out(args.data, args.num_threads)
    text_NE = np.asarray(task.data(Split.TEST, "title").side.text, np.float32)
    fit_rows = np.unique(task.data(Split.TEST, "none").train.indices).astype(np.int64)
    size = int(2 ** np.clip(np.floor(np.log2(len(fit_rows) / ITEMS_PER_CODE)), 2, np.log2(MAX_CODEBOOK)))
    residual, product = residual_codes(text_NE, fit_rows, size, 0), product_codes(text_NE, fit_rows, size, 0)
    for name, coded in (("residual", residual), ("product", product)):
        facts = ", ".join(f"{key} {value:.3f}" for key, value in facts_of(coded, text_NE, size).items())
        print(f"{name} codes, {coded.codes.shape[1]} of {size}: {facts}", flush=True)
    print("row | NDCG@10 | Recall@10 | Recall@20 | NDCG@10 of each seed | validation NDCG@10 | epochs | s", flush=True)
    epochs = {"max_epochs": 2} if args.quick else {}
    config = SASRecConfig(**{**SHARED_SIZES, "num_threads": args.num_threads, **epochs})
    rows = rows_of(product, residual)
    for name in args.only or rows:
        show(name, [judge(rows[name], config, seed, task) for seed in range(1 if args.quick else args.num_seeds)])


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    shared = Path(os.environ.get("LOREFUSE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=shared / "amazon-scientific-small")
    parser.add_argument("--num-seeds", type=int, default=2)
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="rows of the table; default: all")
    parser.add_argument("--quick", action="store_true", help="two epochs and one seed: does it run?")
    return parser.parse_args()


def judge(row: Row, config: SASRecConfig, seed: int, task: Task) -> Result:
    """Train a row's SASRec and rank the test part."""
    start_s, text = time.perf_counter(), "title" if row.text else "none"
    ids = None if row.codes is None else np.arange(1, len(row.codes) + 1)[:, None]
    fields = None if row.codes is None or ids is None else np.concatenate([ids, row.codes], axis=1)
    data, validation = (
        replace(found, side=replace(found.side, item_fields=fields))
        for found in (task.data(part, text) for part in (Split.TEST, Split.VALIDATION))
    )
    model = row.make(config, seed).fit(data.train, data.side, ndcg_of(validation, 10))
    relevant_UN = csr_array(data.warm + data.cold)
    users = np.flatnonzero(np.diff(relevant_UN.indptr))
    ranked_UK = recommend(model, users, 20, seen_UN=data.seen, history_UN=data.history)
    on_validation = ndcg_of(validation, 10, max_users=data.train.shape[0])(model)
    elapsed_s = time.perf_counter() - start_s
    return result_of(ranked_UK, relevant_UN[users], on_validation, len(model.epochs), elapsed_s)


if __name__ == "__main__":
    main()
