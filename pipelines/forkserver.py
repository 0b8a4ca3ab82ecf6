"""Start kfp's local tasks as forks of one process that has imported the heavy libraries once.

kfp's SubprocessRunner starts a Python for every task, and most tasks import torch or Feast, which takes longer than
what they do for a data set of the size of ML-100K. Here one process (multiprocessing's fork server) imports both while
the pipeline is compiled, and each task is a fork of it: a process of its own as before, with the environment, the
working directory and the output of before. It runs kfp's own executor on the code that kfp would have given to it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

LIGHT = ["kfp.dsl.executor_main", "lorefuse.steps", "pipelines.parsed"]
"""What every task imports, and all that one does whose step is reused."""
HEAVY = ["torch", "feast", "sklearn.linear_model", "torch._dynamo", "optuna"]
"""What several tasks import where steps are built; the last but one comes with the first optimizer."""
_RUNTIME = {"_KFP_RUNTIME": "true"}
"""Tells kfp that it is in a task, so that it leaves out its compiler."""
_NUM_WORDS = 8
"""Of a task's command: sh, -ec, the script, the component's code, and four arguments of the executor."""


@contextmanager
def warm_tasks(*, heavy: bool = True) -> Iterator[None]:
    """Fork the tasks of kfp's local runner while inside; nothing changes where forking is not to be trusted.

    On macOS frameworks that torch links to may not be used after a fork.

    Args:
        heavy: Import what building steps takes, which is six seconds. Without it a task does that by itself.
    """
    if sys.platform != "linux":
        yield
        return
    from kfp.local import subprocess_task_handler as handler

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIGHT, *HEAVY] if heavy else LIGHT)
    before = dict(os.environ)
    os.environ.update(_RUNTIME)
    # Ctrl-C reaches the fork server too, which would end in the middle of an import, with a traceback.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.environ.clear()
    os.environ.update(before)
    started = handler.run_local_subprocess
    handler.run_local_subprocess = _run_forked
    try:
        yield
    finally:
        handler.run_local_subprocess = started


def _run_forked(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
    """Run a task as kfp's `run_local_subprocess` does: print its output as it comes, return its exit code."""
    *_, code = full_command[:4]
    arguments = full_command[4:]
    if len(full_command) != _NUM_WORDS or "kfp.dsl.executor_main" not in full_command[2]:
        raise RuntimeError(f"kfp starts tasks in another way than is known here: {full_command[:3]}")
    context = multiprocessing.get_context("forkserver")
    output, sent = context.Pipe(duplex=False)
    environment = {**os.environ, **_RUNTIME, **(env_vars or {})}
    process = context.Process(target=_run_task, args=(code, arguments, environment, sent))
    process.start()
    sent.close()
    with os.fdopen(os.dup(output.fileno()), encoding="utf-8", errors="replace") as lines:
        output.close()
        for line in lines:
            print(line, end="")
        print("\n")
    process.join()
    return process.exitcode or 0


def _run_task(code: str, arguments: list[str], environment: dict[str, str], output: Connection) -> None:
    """Run kfp's executor on a component's code, in a fork."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.environ.clear()
    os.environ.update(environment)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(output.fileno(), stream.fileno())
    output.close()
    from kfp.dsl import executor_main

    with tempfile.TemporaryDirectory() as folder:
        component_path = Path(folder) / "ephemeral_component.py"
        component_path.write_text(code, "utf-8")
        sys.argv = ["executor_main", "--component_module_path", str(component_path), *arguments]
        executor_main.executor_main()
