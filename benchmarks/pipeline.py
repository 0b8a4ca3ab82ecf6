"""What does it cost to run the steps as a pipeline? kfp's local runner beside plain function calls in one process.

Both train a preset from raw files to a registered version (no deployment), in turn and first by turns, each in a home
of its own with the downloads that are there; imports count on both sides: once for the functions, once per process of
steps for the pipeline.

    python benchmarks/pipeline.py [--config pipelines/configs/movielens_100k.yaml] [--repeats 1]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from verdict import give

from lorefuse.config import load_config
from lorefuse.core.schema import SECOND_STRATEGY

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print seconds of both ways and what the pipeline adds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "pipelines" / "configs" / "movielens_100k.yaml")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        train(args.config)
        return
    ways = {
        "functions": [sys.executable, __file__, "--plain", "--config", str(args.config)],
        "pipeline": [sys.executable, "-m", "pipelines.run", "--no-deploy", "--config", str(args.config)],
    }
    rounds = []
    for number in range(args.repeats):
        order = list(ways)[:: 1 if number % 2 else -1]  # who runs first reads files from the disk
        rounds.append({name: measured(ways[name]) for name in order})
        print(f"round {number + 1}:", ", ".join(f"{name} {rounds[-1][name]:.1f} s" for name in order), flush=True)
    for name in ways:
        print(f"{name:10} {median(times[name] for times in rounds):7.1f} s")
    added = [times["pipeline"] - times["functions"] for times in rounds]
    shares = [more / times["pipeline"] for more, times in zip(added, rounds, strict=True)]
    print(f"the pipeline adds {median(added):.1f} s, {median(shares):.1%} of its total", end=" ")
    print(f"({min(shares):.1%} to {max(shares):.1%})")
    allowed = max(10.0, 100 / median(times["pipeline"] for times in rounds))  # a tenth, or a second
    shares = [100 * share for share in shares]
    give("pipeline", args.config.stem, "plain function calls", shares, goal=allowed, unit="% more", at_most=True)


def measured(command: list[str]) -> float:
    """Run a command in an empty home; return its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        home_path = Path(folder) / "home"
        for fetched in ("downloads", "encoders"):  # neither way fetches or exports anything
            source_path = ROOT / ".lorefuse" / "cache" / fetched
            if source_path.is_dir():
                shutil.copytree(source_path, home_path / "cache" / fetched)
        environment = {**os.environ, "LOREFUSE_HOME": str(home_path), "LOREFUSE_PROJECT": str(ROOT)}
        environment["PYTHONPATH"] = str(ROOT)
        start_s = time.perf_counter()
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"pipeline: {command} ended with exit code {done.returncode}\n{done.stderr[-2000:]}")
        return time.perf_counter() - start_s


def train(config_path: Path) -> None:
    """The training pipeline, line by line, without kfp."""
    from lorefuse import steps

    pipeline = load_config(config_path)
    config = steps.dump_config(pipeline)
    made = steps.prepare(pipeline)
    second = steps.prepare(pipeline, SECOND_STRATEGY[pipeline.split.strategy])["training_set"]
    data, texts, parts, rows = (made[name] for name in ("dataset", "embeddings", "split", "training_set"))
    study, control = (steps.tune(config, arm, rows).path for arm in ("real", "none"))
    judged = steps.evaluate(config, rows, study, control, second).path
    stages = steps.lists(config, texts, rows, judged).path
    page = steps.report(config, data, parts, made["item_vectors"], judged, stages).path
    model = steps.bundle(config, data, texts, made["item_vectors"], made["feature_data"], rows, judged, stages).path
    steps.register(config, data, parts, rows, judged, model, page, made["store"])


if __name__ == "__main__":
    main()
