"""Do tables that are moved by rows learn what dense ones do?

Trains a preset's model on a training set, seed by seed and both ways (one process, one thread), and judges the test
rows: AUC of warm and of cold items, and logloss; mean and standard deviation over seeds, and how far the two ways of a
seed are apart. The training set is one that `lorefuse run` has left under its home, in `cache/steps/training_set`.

    python benchmarks/rows_quality.py --rows .lorefuse/cache/steps/training_set/ADDRESS \
        --config pipelines/configs/movielens_100k.yaml [--seeds 5]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorefuse.config import PipelineConfig
    from lorefuse.training_set.arrays import TrainingSet

SHOWN = ("auc_warm", "auc_cold", "logloss_all")
WAYS = {"dense": 1 << 60, "by rows": 0}
"""Rows of a table above which it is moved by rows."""


def main() -> None:
    """Print a line a training, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    from lorefuse.config import load_config
    from lorefuse.training_set.arrays import TrainingSet

    config, training_set = load_config(args.config), TrainingSet.load(args.rows)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(args.seeds):
        for way in WAYS:
            found[way].append(judged(training_set, config, way, seed))
            figures = ", ".join(f"{name} {value:.5f}" for name, value in found[way][-1].items())
            print(f"seed {seed}, {way}: {figures}", flush=True)
    print(f"\n| {args.config.stem}, {args.seeds} seeds | dense | by rows | largest difference of a seed |")
    print("|---|---|---|---|")
    for name in SHOWN:
        dense, by_rows = ([one[name] for one in found[way]] for way in WAYS)
        apart = max(abs(one - other) for one, other in zip(dense, by_rows, strict=True))
        cells = [f"{mean(values):.4f} ± {stdev(values):.4f}" for values in (dense, by_rows)]
        print(f"| {name} | {cells[0]} | {cells[1]} | {apart:.5f} |")


def judged(training_set: TrainingSet, config: PipelineConfig, way: str, seed: int) -> dict[str, float]:
    """Return the figures of one training on test rows, its epochs and CPU seconds."""
    from lorefuse.core.schema import Split
    from lorefuse.training import optimizer
    from lorefuse.training.train import arm_set, judge_split, score_rows, train

    optimizer.BY_ROWS_ABOVE = WAYS[way]
    training = config.training.model_copy(update={"seed": seed, "num_threads": 1})
    arm = arm_set(training_set, "real", config, seed)
    start_s = time.process_time()
    trained = train(arm, config.model, training)
    cpu_s = time.process_time() - start_s
    rows = arm.rows_of(Split.TEST)
    metrics = judge_split(arm, score_rows(trained.ranker, arm, rows), rows, config)
    shown = {name: metrics[name] for name in SHOWN}
    return shown | {"epochs": len(trained.history.epochs), "cpu_s": round(cpu_s, 1)}


if __name__ == "__main__":
    main()
