"""How many rows a second does the training loop take in, optimiser and weight average included?

DeepFM with D = 16 on made-up rows of MovieLens-100K's size (70,000 train rows, 943 users, 1,682 items), without
knowledge, with text, and with text and graph, on one and on two threads. Repeats alternate between the cases, so that
a busy machine slows all of them. Rows per second of CPU time say what a row costs even where others use the machine.

    python benchmarks/training.py [--repeats 5] [--batch-size 2048]
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lorefuse.training_set.arrays import TrainingSet

NUM_USERS, NUM_ITEMS, NUM_ROWS, NUM_TRAIN = 943, 1682, 80_000, 70_000
CASES = {"ids and side features": (0, 0), "with text": (32, 0), "with text and graph": (32, 64)}
"""Name → widths of the text and graph vectors."""
NUM_EPOCHS = 2
"""Epochs a repeat; the faster one counts, the first one warms caches up."""


def main() -> None:
    """Print one line a case and number of threads: median and range over repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=2048)
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: waiting threads must not spin
    import torch

    num_cores = len(os.sched_getaffinity(0))
    print(f"torch {torch.__version__}, {num_cores} cores, batches of {args.batch_size}, {args.repeats} repeats")
    sets = {name: synthetic(*widths) for name, widths in CASES.items()}
    cases = [(name, threads) for name in CASES for threads in (1, 2) if threads <= num_cores]
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {case: [] for case in cases}
    for _ in range(args.repeats):
        for name, threads in cases:
            measured[name, threads].append(measure(sets[name], threads, args.batch_size))
    print(f"{'':24}threads  rows/s (range)              rows per CPU second")
    for (name, threads), figures in measured.items():
        wall, cpu = zip(*figures, strict=True)
        spread = f"({min(wall):,.0f}-{max(wall):,.0f})"
        print(f"{name:24}{threads:7}  {median(wall):>9,.0f} {spread:18}  {median(cpu):>15,.0f}")


def measure(training_set: TrainingSet, num_threads: int, batch_size: int) -> tuple[float, float]:
    """Train once; return train rows per second and per second of CPU time (validation included in the latter)."""
    from lorefuse.config import DeepFMConfig, TrainingConfig
    from lorefuse.models.build import build_ranker
    from lorefuse.training.loop import fit

    ranker = build_ranker(DeepFMConfig(embedding_dim=16), training_set.spec)
    ranker.prepare(training_set)
    config = TrainingConfig(batch_size=batch_size, max_epochs=NUM_EPOCHS, patience=NUM_EPOCHS, num_threads=num_threads)
    start_s = time.process_time()
    history = fit(ranker, training_set, config, validation_score=lambda _: 0.0)
    cpu_s = time.process_time() - start_s
    num_train = int((training_set.split_code == 0).sum())
    return max(epoch["samples_per_s"] for epoch in history.epochs), NUM_EPOCHS * num_train / cpu_s


def synthetic(text_dim: int, graph_dim: int) -> TrainingSet:
    """Return made-up rows of the shape that MovieLens-100K's have; labels are a coin's."""
    from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC
    from lorefuse.features.rows import interest_facets
    from lorefuse.training_set.arrays import TrainingSet
    from lorefuse.training_set.spec import CategoricalField, FeatureSpec, KnowledgeBlock, MultiField

    sizes = {
        "user": {"user_id": NUM_USERS + 1, "gender": 3, "occupation": 22, "age_bucket": 8},
        "item": {"item_id": NUM_ITEMS + 1, "release_decade": 10},
    }
    user_fields, item_fields = (
        tuple(CategoricalField(name=name, size=size) for name, size in fields.items()) for fields in sizes.values()
    )
    dims = {"text": text_dim, "graph": graph_dim}
    blocks = tuple(KnowledgeBlock(name=name, dim=dim) for name, dim in dims.items() if dim)
    spec = FeatureSpec(
        user_fields=user_fields,
        item_fields=item_fields,
        item_multi_fields=(MultiField(name="genres", size=20, width=6),),
        user_numeric=USER_NUMERIC,
        item_numeric=ITEM_NUMERIC,
        interest=interest_facets({block.name: block.dim for block in blocks}),
        knowledge=blocks,
    )
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return np.asarray(rng.standard_normal(shape), dtype=np.float32)

    def indices(num_rows: int, fields: tuple[CategoricalField, ...]) -> NDArray[np.int64]:
        return np.stack([rng.integers(0, field.size, num_rows) for field in fields], axis=1)

    genres = rng.integers(1, 20, (NUM_ITEMS, 6)) * (np.arange(6) < rng.integers(1, 4, (NUM_ITEMS, 1)))
    label = (rng.random(NUM_ROWS) < 0.55).astype(np.float32)
    training_set = TrainingSet(
        spec=spec,
        user_row=rng.integers(0, NUM_USERS, NUM_ROWS).astype(np.int32),
        item_row=rng.integers(0, NUM_ITEMS, NUM_ROWS).astype(np.int32),
        timestamp_us=np.arange(NUM_ROWS),
        value=5 * label,
        label=label,
        split_code=(np.arange(NUM_ROWS) >= NUM_TRAIN).astype(np.uint8),
        cold=np.zeros(NUM_ROWS, dtype=bool),
        user_numeric=normal(NUM_ROWS, len(USER_NUMERIC)),
        state_row=np.arange(NUM_ROWS, dtype=np.int32),
        user_history=np.zeros((NUM_ROWS, 0), np.int32),
        user_interest=normal(NUM_ROWS, sum(facet.dim for facet in spec.interest)),
        item_numeric=normal(NUM_ROWS, len(ITEM_NUMERIC)),
        user_fields=indices(NUM_USERS, user_fields),
        item_fields=indices(NUM_ITEMS, item_fields),
        item_multi=genres,
        knowledge={block.name: normal(NUM_ITEMS, block.dim) for block in blocks},
        item_numeric_now=normal(NUM_ITEMS, len(ITEM_NUMERIC)),
    )
    training_set.check()
    return training_set


if __name__ == "__main__":
    main()
