"""Run a pipeline here with kfp's local runner: ``python -m pipelines.run --config preset.yaml [--pipeline tuning]``.

kfp prints every task's input and log; all of that goes to a file, and the terminal shows one line a step.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lorefuse.auto.pinned import as_chosen
from lorefuse.config import PipelineConfig, load_config
from lorefuse.core.atomic import sha256_json
from lorefuse.core.closure import PACKAGE_PATH
from lorefuse.core.errors import LorefuseError
from lorefuse.core.home import require_writable
from lorefuse.core.log import parse, step_line
from lorefuse.core.progress import TERMINAL_VARIABLE
from lorefuse.core.settings import settings
from lorefuse.data.intake import Intake
from lorefuse.features.days import day_ranges
from lorefuse.registry.tracking import probe
from lorefuse.steps import dump_config
from lorefuse.steps.refresh import new_files
from pipelines.forkserver import warm_tasks

PIPELINES = ("training", "tuning", "refresh", "backfill", "embed_shards")
CHOSEN = ("tuning", "refresh", "backfill")
"""Pipelines that go by what a race has chosen; a champion is only ever refreshed with its own settings."""
KEPT_RUNS = 3
DRAFT_MAX_AGE_S = 6 * 3600
FINISHED_FILE = "finished"
"""In the folder of a run that came to its end: its `_address`."""


_EXECUTING = re.compile(r"Executing task \S*?'([\w-]+)'")


class StepLog(io.TextIOBase):
    """Takes what kfp prints: all of it to a file, the steps' own events to the terminal.

    Args:
        file: Receives everything.
        terminal: Receives one line a step.
    """

    def __init__(self, file: Any, terminal: Any) -> None:
        self.file, self.terminal = file, terminal
        self.pending = ""
        self.error: dict[str, Any] | None = None
        self.events: list[dict[str, Any]] = []

    def write(self, text: str) -> int:
        """Take text as it comes; whole lines are looked at."""
        self.file.write(text)
        *lines, self.pending = (self.pending + text).split("\n")
        for line in lines:
            event = parse(line)
            if event is not None:
                self._show(event)
            elif self.terminal.isatty() and (task := _EXECUTING.search(line)):
                # Overwritten by the step's own bar, and by its line when it is done.
                self.terminal.write(f"\r  {task[1]:<13} running\x1b[K")
                self.terminal.flush()
        return len(text)

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()

    def _show(self, event: dict[str, Any]) -> None:
        if event["event"] == "error":
            self.error = event
            return
        self.events.append(event)
        start = "\r\x1b[K" if self.terminal.isatty() else ""
        print(start + step_line(event), file=self.terminal, flush=True)


def run_local(config: PipelineConfig, pipeline: str, arguments: dict[str, Any]) -> int:
    """Run a pipeline in subprocesses of this machine.

    Args:
        config: What to run.
        pipeline: Its name: `pipelines.<name>.<name>`.
        arguments: Its parameters beside `config`.

    Returns:
        Exit code: 0, or that of the step that failed.
    """
    home_path = settings().home_path
    runs_path = home_path / "runs"
    run_path = runs_path / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    run_path.mkdir(parents=True)
    _drop_old_runs(runs_path)
    _drop_drafts(home_path / "cache" / "steps")
    _name_terminal()
    os.environ["LOREFUSE_HOME"], os.environ["LOREFUSE_PROJECT"] = str(home_path), str(settings().project_path)
    what = config.name if pipeline == "training" else f"{pipeline} of {config.name}"
    print(f"Running {what} with kfp's local runner (log: {run_path / 'pipeline.log'})", flush=True)
    start_s = time.perf_counter()
    with (run_path / "pipeline.log").open("w", encoding="utf-8") as file:
        log = StepLog(file, sys.stdout)
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(file):
                _run(pipeline, {"config": dump_config(config), **arguments}, run_path)
        except RuntimeError as error:
            return _failed(log, error, run_path)
    print(f"Done in {time.perf_counter() - start_s:.0f} s. {_result(pipeline, config, home_path)}", flush=True)
    return 0


def _run(pipeline: str, arguments: dict[str, Any], run_path: Path) -> None:
    from kfp import local

    local.init(
        runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(run_path / "artifacts"), raise_on_error=True
    )
    address = _address(pipeline, arguments)
    before = [path.read_text("utf-8") for path in run_path.parent.glob(f"*/{FINISHED_FILE}")]
    with warm_tasks(heavy=address not in before):
        getattr(importlib.import_module(f"pipelines.{pipeline}"), pipeline)(**arguments)
    (run_path / FINISHED_FILE).write_text(address, "utf-8")


def _address(pipeline: str, arguments: dict[str, Any]) -> str:
    """Return the sha256 of what a run is asked, the library's sources, and the state of the files that it reads.

    A run of the same address will find its steps finished; nothing but the time it takes depends on that.
    """
    sources = {str(path): path.read_text("utf-8") for path in sorted(PACKAGE_PATH.rglob("*.py"))}
    files = {name: (Path(name).stat().st_mtime_ns, Path(name).stat().st_size) for name in _paths_in(arguments)}
    return sha256_json([pipeline, arguments, sources, files])


def _paths_in(value: Any) -> set[str]:
    """Return the texts of a nested value that are paths of files or folders."""
    if isinstance(value, dict | list):
        return set().union(*map(_paths_in, value.values() if isinstance(value, dict) else value))
    with contextlib.suppress(OSError, ValueError):  # e.g. too long for a path, or a NUL in it
        if isinstance(value, str) and Path(value).exists():
            return {value}
    return set()


def _result(pipeline: str, config: PipelineConfig, home_path: Path) -> str:
    """Say where the user finds what a pipeline made."""
    if pipeline == "refresh":
        return f"Report: {home_path / 'refresh.html'}"
    if pipeline == "backfill":
        return f"Features by range of days: {home_path / 'backfill' / config.name}"
    if pipeline == "embed_shards":
        return "lorefuse run finds every text in the cache."
    if pipeline == "tuning":
        return f"To train with what it found: tuning.studies_path: {home_path / 'tuning' / config.name}"
    return f"Report: {home_path / 'report.html'}"


def _failed(log: StepLog, error: RuntimeError, run_path: Path) -> int:
    if log.error is not None:
        print(f"Step {log.error['step']} failed: {log.error['message']}", file=sys.stderr)
        return int(log.error["exit_code"])
    tail = (run_path / "pipeline.log").read_text("utf-8").splitlines()[-15:]
    print("\n".join([f"The pipeline failed: {error}", *tail, f"log: {run_path / 'pipeline.log'}"]), file=sys.stderr)
    return 1


def _name_terminal() -> None:
    """Let the steps, whose output is a pipe, draw their progress bars on this process's terminal."""
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            os.environ[TERMINAL_VARIABLE] = os.ttyname(sys.stderr.fileno())


def _drop_drafts(steps_path: Path) -> None:
    """Remove what killed runs left half-made, unless it is so young that another run may be at work on it."""
    for draft_path in steps_path.glob("*/.*.partial"):
        if time.time() - draft_path.stat().st_mtime > DRAFT_MAX_AGE_S:
            shutil.rmtree(draft_path, ignore_errors=True)


def _drop_old_runs(runs_path: Path) -> None:
    for old_path in sorted(runs_path.iterdir())[:-KEPT_RUNS]:
        shutil.rmtree(old_path, ignore_errors=True)


def _arguments(config: PipelineConfig, given: argparse.Namespace) -> dict[str, Any]:
    """Return a pipeline's parameters beside `config`."""
    strategy = config.split.strategy
    if given.pipeline == "embed_shards":
        return {}
    if given.pipeline == "tuning":
        return {"strategy": strategy}
    if given.pipeline == "backfill":
        day_ranges(given.first, given.last, given.days)  # a mistake is said before anything starts
        return {"strategy": strategy, "first": given.first, "last": given.last, "num_days": given.days}
    both = {"strategy": strategy, "second_strategy": config.second_strategy, "serve": not given.no_deploy}
    if given.pipeline == "refresh":
        new_files(given.new)  # a mistake is said before anything starts
        items_path = str(given.new_items.resolve()) if given.new_items else ""
        return {**both, "new_path": str(given.new.resolve()), "new_items_path": items_path}
    return both


def main() -> int:
    """Parse arguments and run; one clear message and exit code 2 for the user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="YAML preset")
    parser.add_argument("--pipeline", choices=PIPELINES, default="training", help="Which one")
    parser.add_argument("--no-deploy", action="store_true", help="Leave what is served as it is")
    parser.add_argument("--new", type=Path, help="refresh: file with new interactions, or a folder of them")
    parser.add_argument("--new-items", type=Path, help="refresh: file with new or changed items")
    parser.add_argument("--first", default="", help="backfill: first day, YYYY-MM-DD")
    parser.add_argument("--last", default="", help="backfill: last day, itself included")
    parser.add_argument("--days", type=int, default=7, help="backfill: days of a range")
    given = parser.parse_args()
    if given.pipeline == "refresh" and given.new is None:
        parser.error("--pipeline refresh needs --new")
    try:
        config = load_config(given.config)
        if given.pipeline in CHOSEN:
            config = as_chosen(config, required=given.pipeline == "refresh")
        require_writable(settings().home_path)
        Intake.of(config.privacy, config.data.source)  # a missing key or package is said before anything starts
        probe()
        return run_local(config, given.pipeline, _arguments(config, given))
    except LorefuseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nStopped. Finished steps are kept: run again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
