"""Independent trainings side by side: one process a core, one torch thread each, the same numbers as one by one."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from lorefuse.core.log import running_step
from lorefuse.core.settings import settings
from lorefuse.cpu.threads import torch_threads
from lorefuse.training.watch import Watch
from lorefuse.training_set.arrays import ARRAYS_FILE, TrainingSet

Task = TypeVar("Task")
Result = TypeVar("Result")
BASE_BYTES, ROWS_FACTOR = 1_200_000_000, 1.5
"""What a process that learns takes: its libraries, and so much of the training set, whose own pages are shared."""
_CGROUP_PATH = Path("/sys/fs/cgroup")


_kept: list[ProcessPoolExecutor] = []


@contextmanager
def kept_workers(num_workers: int) -> Iterator[None]:
    """Let the calls of `run_parallel` inside share their processes, which then import torch and read rows once.

    Args:
        num_workers: Processes; none starts before there is work for it.
    """
    with _executor(num_workers) as executor:
        _kept.append(executor)
        try:
            yield
        finally:
            _kept.remove(executor)


def num_learners(rows_path: Path) -> int:
    """Return how many processes may learn from a training set at once.

    One a core, as far as free memory goes; no more than `LOREFUSE_MAX_LEARNERS`, where it is set.
    """
    arrays_path = rows_path / ARRAYS_FILE
    rows_bytes = arrays_path.stat().st_size if arrays_path.is_file() else 0  # whoever reads it says that it is missing
    most = settings().max_learners or num_cores()
    return max(1, min(most, num_cores(), int(free_bytes() / (BASE_BYTES + ROWS_FACTOR * rows_bytes))))


def free_bytes() -> int:
    """Return the memory that this process may still take: of the machine, or of the container that it runs in."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit, used, lines = ((_CGROUP_PATH / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
        if limit.strip() == "max":
            return free
        counts = dict(line.split() for line in lines.splitlines())
        # Pages of files that nobody has looked at lately count as used, and make room when asked.
        return min(free, int(limit) - int(used) + int(counts["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no container, or none that says
        return free


def run_parallel(
    function: Callable[[Task], Result], tasks: Sequence[Task], num_workers: int | None = None
) -> Iterator[Result]:
    """Yield the results of `function` in the order of `tasks`.

    Args:
        function: Importable by name (a module's top level).
        tasks: Picklable arguments.
        num_workers: Processes; None: one a core that this process may use. With one, everything runs in this process.

    Raises:
        LorefuseError: A process died, killed for its memory, say. Errors of `function` arrive as they are.
    """
    workers = min(len(tasks), num_workers or num_cores())
    if workers <= 1:
        yield from (_on_one_thread(function, task) for task in tasks)
        return
    with nullcontext(_kept[-1]) if _kept else _executor(workers) as executor, Watch() as watch:
        futures = [executor.submit(_on_one_thread, function, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise watch.death(running_step()) from None
        finally:
            for future in futures:
                future.cancel()


def _on_one_thread(function: Callable[[Task], Result], task: Task) -> Result:
    """Training, and the scoring that follows it: the cores are for the other tasks."""
    with torch_threads(1):
        return function(task)


def num_cores() -> int:
    """Return the cores that this process may use: a container on a large node may use few of them."""
    from joblib import cpu_count  # type: ignore[import-untyped]

    return int(cpu_count())


def _executor(num_workers: int) -> ProcessPoolExecutor:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin on a busy machine
    return ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn"))


@functools.lru_cache(maxsize=1)
def load_training_set(path: str) -> TrainingSet:
    """Read a training set once a process."""
    return TrainingSet.load(Path(path))
