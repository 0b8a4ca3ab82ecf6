"""Follow a run: its tasks' states live on a terminal, one line a change elsewhere, and what came of it at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lorefuse.core.errors import LorefuseError
from pipelines.client_errors import state_of

FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
FAILED_STATES = frozenset({"FAILED", "CANCELED"})
_COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "CANCELED": "red", "RUNNING": "yellow"}
_PLUMBING = ("-driver", "-executor")
"""Ends of names of pods that the backend adds to each task."""


@dataclass(frozen=True)
class TaskView:
    """One task of a run, as people see it.

    Attributes:
        name: Its display name.
        state: As the API names it, e.g. ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``SKIPPED``, ``FAILED``, ``CANCELED``.
        elapsed_s: Seconds since it started, or from start to end; None before.
        error: The server's words, where it failed.
    """

    name: str
    state: str
    elapsed_s: float | None
    error: str


def tasks_of(run: Any) -> list[TaskView]:
    """Return the tasks of a run in the order of their start; the backend's drivers and executors are left out."""
    details = (run.run_details.task_details if run.run_details else None) or []
    shown = [task for task in details if not _is_plumbing(str(task.display_name or ""))]
    shown.sort(key=lambda task: task.start_time or task.create_time or datetime.max.replace(tzinfo=UTC))
    return [
        TaskView(str(task.display_name), state_of(task), _elapsed_s(task.start_time, task.end_time), _error(task))
        for task in shown
    ]


def follow(look: Callable[[], Any], *, poll_s: float, timeout_s: float | None) -> Any:
    """Look at a run until it ends.

    Args:
        look: Fetches the run.
        poll_s: Seconds between two looks.
        timeout_s: Longest wait; None waits for ever.

    Returns:
        The finished run.

    Raises:
        LorefuseError: The wait took too long; the run goes on.
    """
    start_s = time.monotonic()
    view = _LiveView() if sys.stdout.isatty() else _LineView()
    with view:
        while True:
            run = look()
            view.show(run)
            if state_of(run) in FINAL_STATES:
                return run
            if timeout_s is not None and time.monotonic() - start_s + poll_s > timeout_s:
                raise LorefuseError(
                    f"The run did not end within {timeout_s:g} s; it goes on.",
                    got=state_of(run),
                    fix=f"look again later: lorefuse result {run.run_id} --wait",
                )
            time.sleep(poll_s)


def result_of(run: Any, url: str) -> dict[str, Any]:
    """Return what came of a run, JSON-able: state, seconds, tasks, errors."""
    return {
        "run_id": run.run_id,
        "name": run.display_name,
        "state": state_of(run),
        "url": url,
        "elapsed_s": _elapsed_s(run.created_at, run.finished_at),
        "error": _error(run),
        "tasks": [vars(task) for task in tasks_of(run)],
    }


def result_text(result: dict[str, Any]) -> str:
    """Return a result as lines for people; a failure names the tasks that failed, with the server's words."""
    lines = [f"run     {result['name']} ({result['run_id']})", f"state   {result['state']}"]
    if result["elapsed_s"] is not None:
        lines.append(f"took    {result['elapsed_s']:.0f} s")
    counts: dict[str, int] = {}
    for task in result["tasks"]:
        counts[task["state"]] = counts.get(task["state"], 0) + 1
    if counts:
        lines.append("tasks   " + ", ".join(f"{number} {state.lower()}" for state, number in sorted(counts.items())))
    if result["error"]:
        lines.append(f"error   {result['error']}")
    lines += [
        f"  {task['name']} {task['state'].lower()}" + (f": {task['error']}" if task["error"] else "")
        for task in result["tasks"]
        if task["state"] in FAILED_STATES
    ]
    return "\n".join([*lines, f"page    {result['url']}"])


class _LineView:
    """One line for each change of a task's state: what a log can hold."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    def __enter__(self) -> _LineView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, run: Any) -> None:
        for task in tasks_of(run):
            if self.seen.get(task.name) != task.state:
                self.seen[task.name] = task.state
                is_over = task.state in FINAL_STATES and task.elapsed_s is not None
                seconds = f"{task.elapsed_s:8.1f} s" if is_over else ""
                print(f"  {task.name:<20} {task.state.lower():<10}{seconds}".rstrip(), flush=True)


class _LiveView:
    """A table that is drawn anew at each look."""

    def __init__(self) -> None:
        self.live = Live(console=Console(), auto_refresh=False)

    def __enter__(self) -> _LiveView:
        self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.live.__exit__(*error)

    def show(self, run: Any) -> None:
        table = Table("task", "state", "seconds", title=f"{run.display_name}: {state_of(run).lower()}")
        for task in tasks_of(run):
            seconds = "" if task.elapsed_s is None else f"{task.elapsed_s:.0f}"
            table.add_row(task.name, task.state.lower(), seconds, style=_COLOURS.get(task.state))
        self.live.update(table, refresh=True)


def _is_plumbing(name: str) -> bool:
    return name in ("", "root", "executor") or name.endswith(_PLUMBING)


def _elapsed_s(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or start.year < 2000:  # a time that is not set yet comes as the epoch
        return None
    is_over = end is not None and end >= start
    return ((end if is_over and end else datetime.now(start.tzinfo)) - start).total_seconds()


def _error(message: Any) -> str:
    return str(message.error.message or "") if message.error else ""
