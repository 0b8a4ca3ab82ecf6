"""One trial of a pipeline's study, in a process of its own: whatever kills it, the study hears that it failed."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from lorefuse.core.errors import ConfigError
from lorefuse.tuning.space import CHOICES, RANGES
from lorefuse.tuning.study import TrialTask, run_task

KILLED = "the trial's process ended without a result; most often the system killed it for want of memory"


def run_apart(task: TrialTask) -> dict[str, Any]:
    """Run a trial in a process of its own and return its record.

    Args:
        task: Rows, configuration, arm and parameters.

    Returns:
        params, state (COMPLETE, PRUNED, FAIL), value, num_epochs, curve, duration_s; for a failure also `error`.

    Raises:
        LorefuseError: The rows or the configuration cannot be used: no other trial would fare better.
    """
    start_s = time.perf_counter()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            record = executor.submit(run_task, task).result()
    except BrokenProcessPool:
        return _failed(task, KILLED, start_s)
    except (MemoryError, RuntimeError) as error:  # torch says want of memory and shapes that do not fit this way
        return _failed(task, f"{type(error).__name__}: {error}"[:300], start_s)
    if record["value"] is not None and not math.isfinite(record["value"]):
        return _failed(task, f"its value is {record['value']}", start_s)
    return record


def exact(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as they were asked for, after a way through a pipeline that makes floats of whole numbers.

    Args:
        params: By the names of the search space.

    Raises:
        ConfigError: A name is not in the search space.
    """
    known = {*RANGES, *CHOICES, "family", "alignment_weight", "alignment_temperature"}
    unknown = sorted(set(params) - known)
    if unknown:
        raise ConfigError(f"A trial has no parameter {unknown[0]!r}.", expected=", ".join(sorted(known)))
    return {
        name: next((choice for choice in CHOICES.get(name, ()) if choice == value), value)
        for name, value in params.items()
    }


def _failed(task: TrialTask, error: str, start_s: float) -> dict[str, Any]:
    elapsed_s = round(time.perf_counter() - start_s, 2)
    nothing: dict[str, Any] = {"state": "FAIL", "value": None, "num_epochs": 0, "curve": []}
    return {"params": task.params, **nothing, "duration_s": elapsed_s, "error": error}
