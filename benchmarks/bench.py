"""Every stage beside what a user would pick instead, in one run: a table of ratios, their spread and the goals.

Runs the benchmarks one after the other, each with nothing beside it, shows what they print, and gathers what they give
(`verdict.py`) into one table and one page with a plot. A stage that breaks down, or whose peer is not here, is named,
and the others go on. Servers need a deployed model: `make demo`.

    python benchmarks/bench.py [--quick] [--only training tuning] [--out .lorefuse/bench]

About an hour; `--quick` takes smaller data and fewer rounds, about a third of that.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from bench_page import write_page
from verdict import FILE_VARIABLE, Verdict, read

ROOT = Path(__file__).parents[1]
Command = tuple[str, ...]
STAGES: dict[str, tuple[Command, ...]] = {
    "recommend": (("serving_peers.py",),),
    "embedding": (
        ("embedding.py", "--num-threads", "1", "--rounds", "3"),
        ("embedding.py", "--num-threads", "2", "--rounds", "2", "--only", "short", "long"),
    ),
    "training": (("training_peers.py", "--repeats", "3"),),
    "tables": (("table_rows.py",),),
    "tuning": (("tuning_peers.py", "--peer-trials", "6", "--rounds", "2"),),
    "join": (
        ("point_in_time.py", "--stores", "duckdb", "--repeats", "3"),
        # Feast's file store gave no answer for a million rows in five CPU minutes.
        ("point_in_time.py", "--stores", "file", "--rows", "100000", "--repeats", "3"),
    ),
    "materialise": (("materialize.py",),),
    "online": (("online_features.py",),),
    "pipeline": (("pipeline.py", "--repeats", "2"),),
    "growth": (("growth.py",),),
    "large": (("serving_large.py", "--seconds", "2"),),
}
QUICK: dict[str, tuple[Command, ...]] = {
    "embedding": (("embedding.py", "--num-threads", "1", "--rounds", "2", "--only", "short", "second"),),
    "training": (
        ("training_peers.py", "--max-rows", "24576", "--repeats", "3", "--threads", "1", "--batch-sizes", "4096"),
    ),
    "tables": (("table_rows.py", "--rows", "10000", "1000000", "--turns", "5"),),
    "tuning": (("tuning_peers.py", "--peer-trials", "3", "--rounds", "1"),),
    "join": (("point_in_time.py", "--rows", "100000"),),
    "materialise": (("materialize.py", "--rows", "100000"),),
    "pipeline": (("pipeline.py", "--repeats", "2"),),
    "large": (("serving_large.py", "--items", "100000"),),
    "growth": (("growth.py", "--times", "1", "10"),),
}
"""What replaces a stage's commands in a quick run."""


def main() -> None:
    """Run the stages; print the table and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="STAGE")
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer rounds")
    parser.add_argument("--out", type=Path, default=ROOT / ".lorefuse" / "bench", help="folder of page and table")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    verdicts_path = given.out / "verdicts.jsonl"
    verdicts_path.unlink(missing_ok=True)
    start_s, load, troubles = time.perf_counter(), os.getloadavg()[0], []
    took: dict[str, float] = {}
    for stage in (name for name in STAGES if name in given.only):
        stage_s = time.perf_counter()
        for number, command in enumerate((QUICK.get(stage) if given.quick else None) or STAGES[stage]):
            troubles += run(command, given.out / f"{stage}_{number}.txt", verdicts_path)
        took[stage] = (time.perf_counter() - stage_s) / 60
    minutes = (time.perf_counter() - start_s) / 60
    machine = (
        f"{machine_name()}, {len(os.sched_getaffinity(0))} cores, load {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after, {minutes:.0f} minutes" + (", quick" if given.quick else "")
    )
    verdicts = read(verdicts_path)
    print(f"\n{table(verdicts)}\n\n{machine}: " + ", ".join(f"{name} {spent:.0f}" for name, spent in took.items()))
    for trouble in troubles:
        print(trouble)
    print(write_page(verdicts, machine, troubles, given.out))
    sys.exit(1 if any("ended with" in trouble for trouble in troubles) else 0)


def run(command: Command, log_path: Path, verdicts_path: Path) -> list[str]:
    """Run one benchmark, showing and keeping what it prints; return what was skipped or went wrong."""
    print(f"\n== {' '.join(command)}", flush=True)
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, FILE_VARIABLE: str(verdicts_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    arguments = [sys.executable, str(ROOT / "benchmarks" / command[0]), *command[1:]]
    troubles = []
    with (
        log_path.open("w", encoding="utf-8") as log,
        subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            log.write(line)
            if "SKIPPED" in line or "nothing is deployed" in line:
                troubles.append(f"{command[0]}: {line.strip()}")
    if process.returncode:
        troubles.append(f"{command[0]} ended with exit code {process.returncode}; see {log_path} and above")
    return troubles


def table(verdicts: list[Verdict]) -> str:
    """Return a Markdown table of all verdicts."""
    words = {True: "reached", False: "**not reached**", None: ""}
    rows = [f"| {v.stage} | {v.case} | {v.peer} | {v.found} | {v.wanted} | {words[v.reached]} |" for v in verdicts]
    judged = [v.reached for v in verdicts if v.reached is not None]
    head = ["| stage | case | beside | found, median [range] | goal | |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"{sum(judged)} of {len(judged)} goals reached"])


def machine_name() -> str:
    """Return the processor's name, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
