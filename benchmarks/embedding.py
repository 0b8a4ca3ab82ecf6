"""Texts per second of our encoder beside sentence-transformers, fastembed and a plain ONNX run, on the same weights.

All encode the same texts in float32 with the same number of threads. Ours is `embed_texts` into an empty cache, writing
it included. fastembed runs as it comes. sentence-transformers' `encode` and the ONNX run (what fastembed does, by hand:
batches in the order given, each padded to its longest text, onnxruntime, mean pooling) take the batch size that was
best in a first round. Sides take turns, so that a busy machine slows all of them; the figures that count are the ratios
within a round. Then ours in the arithmetic that `embedding.dtype: auto` chooses on the film texts, where it is not
float32, beside the same peers in float32, and beside sentence-transformers in that arithmetic. Then the second run:
10,000 texts, all of them known, and 100 of them changed.

    python benchmarks/embedding.py [--num-threads 2] [--rounds 5] [--only short long]
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median

import numpy as np
from peers.encoders import Peer, Vectors, fastembed, plain_onnx, sentence_transformers, timed
from verdict import give, spread

from lorefuse.config import DataConfig, EmbeddingConfig, MovieLensSource
from lorefuse.core.atomic import sha256_json
from lorefuse.core.errors import LorefuseError
from lorefuse.core.settings import settings
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.embedding.cache import EmbeddingCache
from lorefuse.embedding.dtype_choice import AUTO, MIN_OVERLAP, YARDSTICK, choose
from lorefuse.embedding.embed import embed_texts
from lorefuse.embedding.encoder import load_encoder
from lorefuse.embedding.fingerprint import encoded_space
from lorefuse.embedding.prompt import item_texts

MAX_TOKENS = 256
MIN_COSINE = 0.9999
GOAL, FAST_GOAL, SECOND_RUN_GOAL_S = 2.0, 4.0, 1.0


def main() -> None:
    """Print a line for each kind of text and peer, and what a second run costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=["short", "varied", "long", "repeated", "second"])
    args = parser.parse_args()
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.num_threads)
    config = EmbeddingConfig(max_tokens=MAX_TOKENS, num_threads=args.num_threads)
    films = movielens_texts()
    kinds = {
        "short": films[::3],
        "varied": made_up_texts(300, 45.0),
        "long": made_up_texts(60, 230.0),
        "repeated": [text for text in films[:400] for _ in range(4)],
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOREFUSE_HOME"] = folder
        peers = {
            **sentence_transformers(config, MAX_TOKENS),
            **fastembed(config, MAX_TOKENS, Path(folder)),
            **plain_onnx(config, Path(folder)),
        }
        encoder = load_encoder(config)
        modes = [config]
        if (dtype := chosen(config, films)) != config.dtype:
            modes.append(config.model_copy(update={"dtype": dtype}))
            peers |= sentence_transformers(config, MAX_TOKENS, dtype=dtype)
        print(f"encoder minilm, {args.num_threads} threads, {args.rounds} rounds")
        for name, texts in kinds.items():
            if texts and (not args.only or name in args.only):
                tokens = [len(ids) for ids in encoder.tokenize(texts)]
                print(f"{name}: {len(texts)} texts, {mean(tokens):.0f} tokens on average, {max(tokens)} at most")
                for mode in modes:
                    for peer_name, peer in peers.items():
                        if peer.dtype in (None, mode.dtype):
                            compare(name, peer_name, peer, texts, mode, args.rounds)
        if not args.only or "second" in args.only:
            second_run(config)


def compare(kind: str, name: str, peer: Peer, texts: list[str], config: EmbeddingConfig, rounds: int) -> None:
    """Print by how much ours is faster than one peer, wall and CPU time."""
    cold(texts[:64], config), peer.encode(texts[:64], peer.batch_sizes[0])
    part = texts[: max(64, len(texts) // 4)]
    size = min(peer.batch_sizes, key=lambda size: peer.encode(part, size).wall_s)
    wall, cpu, rates, cosine = [], [], [], 1.0
    for number in range(rounds):
        if number % 2:
            ours, theirs = timed(lambda: cold(texts, config)), peer.encode(texts, size)
        else:
            theirs, ours = peer.encode(texts, size), timed(lambda: cold(texts, config))
        wall.append(theirs.wall_s / ours.wall_s), cpu.append(theirs.cpu_s / ours.cpu_s)
        rates.append(len(texts) / ours.wall_s)
        cosine = min(cosine, float((ours.vectors * theirs.vectors).sum(1).min()))
    print(
        f"  {config.dtype}, {name} at batch size {size}: ours is faster by {spread(wall)} (CPU time {spread(cpu)}); "
        f"ours {median(rates):.0f} texts/s; smallest cosine {cosine:.6f}",
        flush=True,
    )
    if cosine < MIN_COSINE and config.dtype == YARDSTICK:
        sys.exit("embedding: the vectors differ, so the times do not compare")
    goal = GOAL if config.dtype == YARDSTICK else FAST_GOAL
    case = f"{kind} texts, {config.dtype}, {threads(config.num_threads)}"
    give("text encoding", case, name, wall, goal=goal if peer.dtype is None else None)


def chosen(config: EmbeddingConfig, texts: list[str]) -> str:
    """Return the arithmetic that `dtype: auto` chooses on some texts; print what was measured."""
    record = choose(config.model_copy(update={"dtype": AUTO}), texts)
    print(f"dtype auto chooses {record['dtype']}, measured on {record['num_texts']} texts: {record['measured']}")
    if record["dtype"] != YARDSTICK:
        kept = record["measured"][record["dtype"]]["overlap"]
        give("text encoding, neighbours", record["dtype"], "float32", [kept], goal=MIN_OVERLAP, unit="shared")
    return str(record["dtype"])


def threads(number: int) -> str:
    """Return a number of threads in words."""
    return "1 thread" if number == 1 else f"{number} threads"


def cold(texts: list[str], config: EmbeddingConfig) -> Vectors:
    """Return the vectors of texts, none of which is known."""
    shutil.rmtree(settings().cache_path, ignore_errors=True)
    return embed_texts(texts, config)[0]


def movielens_texts() -> list[str]:
    """Return the item texts, or none where MovieLens is neither cached nor downloadable."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            ingest(DataConfig(source=MovieLensSource(graph=False)), Path(folder))
            dataset = Dataset.open(folder)
            texts = item_texts(dataset.items(), dataset.roles.item_text, EmbeddingConfig().prompt)
            return [text for text in texts if text]  # one film has none: a vector of zeros for us, any for others
    except LorefuseError as error:
        print(f"MovieLens items: SKIPPED, {error}")
        return []


def made_up_texts(num_texts: int, mean_words: float) -> list[str]:
    """Return texts whose lengths spread like those of descriptions: many shorter than the mean, some very long."""
    rng = np.random.default_rng(0)
    sentence = "the story of a young pilot who returns home after war and finds an old letter about lost treasure"
    words = sentence.split()
    lengths = np.clip(rng.lognormal(np.log(mean_words) - 0.32, 0.8, num_texts), 2, 400).astype(int)
    return [" ".join(rng.choice(words, length)) for length in lengths]


def second_run(config: EmbeddingConfig, num_texts: int = 10_000, num_changed: int = 100) -> None:
    """Print what it takes to embed 10,000 texts again, unchanged and with some of them changed."""
    texts = [f"film number {number}" for number in range(num_texts)]
    space = encoded_space(config)
    cache = EmbeddingCache(settings().cache_path / "embeddings.sqlite", sha256_json(space), space["dim"])
    cache.put(texts, np.random.default_rng(0).normal(size=(num_texts, space["dim"])).astype(np.float32))
    load_encoder(config)
    again_s = timed(lambda: embed_texts(texts, config)[0]).wall_s
    changed = [f"{text}, changed" for text in texts[:num_changed]] + texts[num_changed:]
    start_s = time.perf_counter()
    report = embed_texts(changed, config)[1]
    changed_s = time.perf_counter() - start_s
    print(
        f"second run: {num_texts} known texts {again_s:.2f} s; {num_changed} of them changed {changed_s:.2f} s, ",
        end="",
    )
    print(f"{report['num_encoded']} encoded, {report['num_cached']} found")
    for case, seconds in (("known texts", again_s), (f"known texts, {num_changed} of them changed", changed_s)):
        goal = SECOND_RUN_GOAL_S if seconds is again_s else None
        give("text encoding again", f"{num_texts:,} {case}", "itself", [seconds], goal=goal, unit="s", at_most=True)


if __name__ == "__main__":
    main()
