"""Texts per second of our encoder against sentence-transformers' `encode`, on the same weights, in the same run.

Both encode the same texts in float32 with the same number of threads; sentence-transformers with its own best batch
size. Repeats alternate, so that a busy machine slows both; the figure that counts is the ratio within a repeat.

    python benchmarks/embedding.py [--num-threads 2] [--repeats 7]
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import DataConfig, EmbeddingConfig, MovieLensSource
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.embedding.cache import EmbeddingCache
from lorefuse.embedding.encoder import load_encoder
from lorefuse.embedding.prompt import item_texts
from lorefuse.embedding.source import resolve
from lorefuse.errors import LorefuseError

MAX_TOKENS = 256
PEER_BATCH_SIZES = (32, 64, 128)
Vectors = NDArray[np.float32]


def main() -> None:
    """Print the ratio on MovieLens' item texts and on texts of varied length, and the cost of a full cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        sys.exit("embedding: skipped, sentence-transformers is not installed (pip install sentence-transformers)")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.num_threads)
    config = EmbeddingConfig(max_tokens=MAX_TOKENS, num_threads=args.num_threads)
    peer = SentenceTransformer(str(resolve(config).path), device="cpu")
    peer.max_seq_length = MAX_TOKENS
    ours = load_encoder(config)
    print(f"encoder minilm, float32, {args.num_threads} threads, {args.repeats} alternating repeats")
    for name, texts in (("MovieLens items", movielens_texts()), ("varied length", varied_texts())):
        if texts:
            compare(name, texts, ours.encode, peer.encode, args.repeats)
            tokens = [len(ids) for ids in ours.tokenize(texts)]
            print(f"  {len(texts)} texts, {mean(tokens):.1f} tokens on average, {max(tokens)} at most")
    time_cache(ours.dim)


def compare(
    name: str, texts: list[str], ours: Callable[[list[str]], Vectors], peer: Callable[..., Vectors], repeats: int
) -> None:
    """Time both in turn; the peer at the batch size that was best in a first round."""
    options = {"show_progress_bar": False, "normalize_embeddings": True}
    ours(texts[:64]), peer(texts[:64], **options)
    trials = {
        size: min(timed(lambda size=size: peer(texts, batch_size=size, **options))[0] for _ in range(2))
        for size in PEER_BATCH_SIZES
    }
    size = min(trials, key=lambda size: trials[size])
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for repeat in range(repeats):
        for who in ("ours", "peer") if repeat % 2 else ("peer", "ours"):
            work = (lambda: ours(texts)) if who == "ours" else (lambda: peer(texts, batch_size=size, **options))
            elapsed_s, vectors = timed(work)
            seconds[who].append(elapsed_s)
            if who == "ours":
                our_vectors = vectors
            else:
                peer_vectors = vectors
    ratios = [theirs / mine for mine, theirs in zip(seconds["ours"], seconds["peer"], strict=True)]
    cosine = float((our_vectors * peer_vectors).sum(1).min())
    print(
        f"{name}: {median(ratios):.2f}x sentence-transformers ({min(ratios):.2f}-{max(ratios):.2f}); "
        f"ours {len(texts) / median(seconds['ours']):.0f} texts/s, "
        f"peer {len(texts) / median(seconds['peer']):.0f} texts/s at batch size {size}; smallest cosine {cosine:.6f}"
    )
    if cosine < 0.9999:
        sys.exit("embedding: the vectors differ, so the times do not compare")


def timed(work: Callable[[], Vectors]) -> tuple[float, Vectors]:
    """Return the seconds some work took, and its result."""
    start_s = time.perf_counter()
    result = work()
    return time.perf_counter() - start_s, result


def movielens_texts() -> list[str]:
    """Return the 1,682 item texts, or none where MovieLens is neither cached nor downloadable."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            ingest(DataConfig(source=MovieLensSource(graph=False)), Path(folder))
            dataset = Dataset.open(folder)
            return item_texts(dataset.items(), dataset.roles.item_text, EmbeddingConfig().prompt)
    except LorefuseError as error:
        print(f"MovieLens items: skipped, {error}")
        return []


def varied_texts(num_texts: int = 600, mean_words: float = 45.0) -> list[str]:
    """Return made-up texts whose lengths spread like those of descriptions: many short, some very long."""
    rng = np.random.default_rng(0)
    sentence = "the story of a young pilot who returns home after war and finds an old letter about lost treasure"
    words = sentence.split()
    lengths = np.clip(rng.lognormal(np.log(mean_words) - 0.32, 0.8, num_texts), 2, 400).astype(int)
    return [" ".join(rng.choice(words, length)) for length in lengths]


def time_cache(dim: int, num_texts: int = 10_000) -> None:
    """Print how long it takes to find 10,000 known texts."""
    texts = [f"text number {number}" for number in range(num_texts)]
    vectors = np.random.default_rng(0).normal(size=(num_texts, dim)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(Path(folder) / "embeddings.sqlite", "space", dim)
        cache.put(texts, vectors)
        seconds = [timed(lambda: cache.get(texts)[0])[0] for _ in range(5)]
    print(f"cache: {num_texts} known texts of width {dim} in {median(seconds) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
