"""Independent trainings side by side: one process a core, one torch thread each, the same numbers as one by one."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from lorefuse.features.training_set import TrainingSet

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_parallel(
    function: Callable[[Task], Result], tasks: Sequence[Task], num_workers: int | None = None
) -> Iterator[Result]:
    """Yield the results of `function` in the order of `tasks`.

    Args:
        function: Importable by name (a module's top level).
        tasks: Picklable arguments.
        num_workers: Processes; null: one a core. With one, everything runs in this process.
    """
    workers = min(len(tasks), num_workers or os.cpu_count() or 1)
    if workers <= 1:
        yield from map(function, tasks)
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin on a busy machine
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        futures = [executor.submit(function, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


@functools.lru_cache(maxsize=1)
def load_training_set(path: str) -> TrainingSet:
    """Read a training set once a process."""
    return TrainingSet.load(Path(path))
