"""Peak memory of every process of the learning steps on data shaped like Yelp's, beside the size of the training set.

    python benchmarks/learning_memory.py --folder /data/yelp-memory                 # 2.4 million rows, some 40 minutes
    python benchmarks/learning_memory.py --folder small --rows 30000 --users 3000 --items 2000

The data are those of `benchmarks/yelp_like.py`, the settings those of `amazon_beauty.yaml` (DIN with words and match;
arms real, none, categories, shuffled), with an encoder of one layer of width 32 and few epochs: memory does not depend
on how long a training lasts. Each step runs in a process of its own, whose children (the processes that learn) are
looked at five times a second:

* own: anonymous memory, which nobody else could use (Anonymous of /proc/PID/smaps_rollup);
* PSS: own and its share of what is shared, pages of mapped files among it, which the system may drop at need;
* resident: the largest resident set that the kernel has seen (VmHWM), pages of files counted in full.

The limit, 1 GB and 1.5 times the training set's file, holds for PSS. With `--limit` a larger process is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml
from growth import write_encoder
from yelp_like import NUM_CATEGORIES, NUM_ITEMS, NUM_ROWS, NUM_USERS, make

ROOT = Path(__file__).parents[1]
STEPS = ("tune", "evaluate", "study", "export")
ARMS = ["real", "none", "categories", "shuffled"]
BASE_BYTES, ROWS_FACTOR = 1e9, 1.5
PERIOD_S, MIN_BYTES = 0.2, 300e6
"""How often processes are looked at, and what is left out of the table: processes that never learn."""


def main() -> None:
    """Make the data, run the steps, print the table; or, in a child, one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="Data, caches and results; reused")
    parser.add_argument("--rows", type=int, default=NUM_ROWS)
    parser.add_argument("--users", type=int, default=NUM_USERS)
    parser.add_argument("--items", type=int, default=NUM_ITEMS)
    parser.add_argument("--categories", type=int, default=NUM_CATEGORIES)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--limit", action="store_true", help="Fail where a process is larger than it may be")
    parser.add_argument("--child", choices=("prepare", *STEPS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder = given.folder.resolve()
    if given.child:
        print(json.dumps(_work(folder)[given.child]()))
        return
    if not (folder / "config.yaml").is_file():
        print(make(folder / "raw", given.rows, given.users, given.items, given.categories), flush=True)
        write_encoder(folder / "encoder")
        (folder / "config.yaml").write_text(yaml.safe_dump(settings_of(folder, given.epochs)), "utf-8")
    measured("prepare", folder)
    size = rows_bytes(folder)
    limit = BASE_BYTES + ROWS_FACTOR * size
    print(f"training_set.safetensors: {size / 1e6:,.0f} MB; limit of a process: {limit / 1e6:,.0f} MB", flush=True)
    over = [f"{step} ({pss / 1e6:,.0f} MB)" for step in given.steps for pss in measured(step, folder) if pss > limit]
    if over:
        print(f"Over the limit: {', '.join(over)}")
    sys.exit(1 if over and given.limit else 0)


def settings_of(folder: Path, num_epochs: int) -> dict[str, Any]:
    """Return the configuration: `amazon_beauty.yaml` on the data of a folder, with little to do."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "pipelines/configs/amazon_beauty.yaml").read_text("utf-8"))
    content["name"] = "yelp-memory"
    paths = {f"{name}_path": str(folder / "raw" / f"{name}.parquet") for name in ("interactions", "items")}
    content["data"]["source"] |= paths
    content["embedding"] |= {"encoder": str(folder / "encoder"), "num_threads": 1}
    content["training"] = {"max_epochs": num_epochs}
    content["tuning"] = {"num_trials": 2}
    content["retrieval"] = {name: {"max_epochs": 1, "num_threads": 1} for name in ("sasrec", "two_tower")}
    content["evaluation"] |= {"arms": ARMS, "num_seeds": 1}
    content["study"] = {"arms": ARMS, "num_seeds": 1, "num_bootstraps": 20}
    return content


def measured(step: str, folder: Path) -> list[float]:
    """Run a step in a process of its own, print a line for it and each process below it, and return their PSS."""
    command = [sys.executable, __file__, "--child", step, "--folder", str(folder)]
    home = {"LOREFUSE_HOME": str(folder / "home"), "LOREFUSE_PROJECT": str(ROOT)}
    start_s = time.perf_counter()
    with (folder / f"{step}.log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **home})
        peaks = watched(child)
    if child.returncode:
        sys.exit(f"{step} failed ({child.returncode}): see {folder / f'{step}.log'}")
    seconds, found = time.perf_counter() - start_s, []
    for number, peak in enumerate(sorted(peaks.values(), key=lambda one: -one["pss"])):
        if number and peak["pss"] < MIN_BYTES:
            continue
        found.append(peak["pss"])
        shown = "  ".join(f"{name} {peak[name] / 1e6:>7,.0f} MB" for name in ("own", "pss", "resident"))
        print(f"{step:9} {'parent' if peak['first'] else 'child':6} {shown}   step {seconds:.0f} s", flush=True)
    return found


def watched(child: subprocess.Popen[Any]) -> dict[int, dict[str, float]]:
    """Return the peaks of a process and of all below it, by process id; ends when the process has."""
    peaks: dict[int, dict[str, float]] = {}
    root, ended = psutil.Process(child.pid), threading.Event()

    def look() -> None:
        while not ended.wait(PERIOD_S):
            for pid in _family(root):
                _note(peaks.setdefault(pid, {"first": float(pid == child.pid), "own": 0, "pss": 0, "resident": 0}), pid)

    watcher = threading.Thread(target=look)
    watcher.start()
    child.wait()
    ended.set()
    watcher.join()
    return peaks


def _family(root: psutil.Process) -> Iterator[int]:
    try:
        yield root.pid
        yield from (process.pid for process in root.children(recursive=True))
    except psutil.NoSuchProcess:
        return


def _note(peak: dict[str, float], pid: int) -> None:
    """Take a process's figures into its peaks; one that has ended keeps those it had."""
    try:
        now = {
            name: int(text.split()[0]) * 1024
            for file in ("smaps_rollup", "status")
            for name, text in (line.split(":", 1) for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()[1:])
            if text.rstrip().endswith("kB")
        }
    except (OSError, ValueError):
        return
    for name, of in (("own", "Anonymous"), ("pss", "Pss"), ("resident", "VmHWM")):
        peak[name] = max(peak[name], now.get(of, 0))


def rows_bytes(folder: Path) -> int:
    """Return the size of the training set's file."""
    from lorefuse.training_set.arrays import ARRAYS_FILE

    return (Path(json.loads((folder / "artifacts.json").read_text())["rows"]) / ARRAYS_FILE).stat().st_size


def _work(folder: Path) -> dict[str, Callable[[], Any]]:
    from lorefuse import steps
    from lorefuse.config import load_config

    config = load_config(folder / "config.yaml")
    content = steps.dump_config(config)

    def made() -> dict[str, Path]:
        return {name: Path(path) for name, path in json.loads((folder / "artifacts.json").read_text()).items()}

    def prepare() -> None:
        paths = {name: str(path) for name, path in steps.prepare(config).items()}
        (folder / "artifacts.json").write_text(json.dumps(paths))

    def tune() -> None:
        for arm in ("real", "none"):
            steps.tune(content, arm, made()["training_set"])

    def evaluate() -> None:
        rows = made()["training_set"]
        steps.evaluate(content, rows, *(steps.tune(content, arm, rows).path for arm in ("real", "none")))

    def study() -> None:
        from lorefuse.study.run import run_study
        from lorefuse.study.variants import make_variants

        run_study(make_variants(config, []), [made()], folder / "study")

    def export() -> None:
        from lorefuse.export.graphs import export_graphs
        from lorefuse.features.history import with_history
        from lorefuse.models.build import load_ranker
        from lorefuse.training.evaluate import RANKER_FOLDER
        from lorefuse.training_set.arrays import TrainingSet

        rows = made()["training_set"]
        trials = (steps.tune(content, arm, rows).path for arm in ("real", "none"))
        trained = steps.evaluate(content, rows, *trials).path / RANKER_FOLDER
        shutil.rmtree(folder / "bundle", ignore_errors=True)
        shutil.copytree(trained, folder / "bundle")
        length = load_ranker(folder / "bundle").spec.history_length
        export_graphs(with_history(TrainingSet.load(rows), length), config, folder / "bundle")

    return {"prepare": prepare, "tune": tune, "evaluate": evaluate, "study": study, "export": export}


if __name__ == "__main__":
    main()
