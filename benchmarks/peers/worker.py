"""A runner's process, seen from the benchmark that starts it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers.environment import FOLDER, peer_python
from peers.protocol import Job, Timed, Work

OURS = "lorefuse"


class Worker:
    """Starts `<name>_runner.py` in its environment and asks it things; one at a time, so that runs can alternate.

    Args:
        name: A peer, or `OURS`.
        folder_path: Interchange folder.
        job: Hyper-parameters.
        as_shipped: Ours alone: its defaults in place of the shared settings.

    Raises:
        PeerUnavailableError: The peer's environment cannot be made.
        SystemExit: The runner has ended; its last lines are shown.
    """

    def __init__(self, name: str, folder_path: Path, job: Job, *, as_shipped: bool = False) -> None:
        python_path = Path(sys.executable) if name == OURS else peer_python(name)
        self.name = name
        self._scratch = tempfile.TemporaryDirectory()
        self._errors = (Path(self._scratch.name) / "errors.log").open("w+", encoding="utf-8")
        # How threads wait is left to each library's own default, which its users have: epochs never run side by side.
        environment = {
            **{name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"},
            "OMP_NUM_THREADS": str(job.num_threads),
            "PYTHONPATH": os.pathsep.join([str(FOLDER.parents[1]), str(FOLDER)]) if name == OURS else str(FOLDER),
            "LOREFUSE_AS_SHIPPED": "1" if as_shipped else "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self._process = subprocess.Popen(
            [str(python_path), str(FOLDER / f"{name}_runner.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=self._scratch.name,
            env=environment,
        )
        self._ask(do="open", folder=str(folder_path.resolve()), job=dataclasses.asdict(job), scratch=self._scratch.name)

    def fit(self, seed: int) -> tuple[NDArray[np.float32], float]:
        """Train with early stopping; return scores of the test rows, and seconds."""
        out_path = Path(self._scratch.name) / "scores.npy"
        answer = self._ask(do="fit", seed=seed, out=str(out_path))
        return np.load(out_path, allow_pickle=False), answer["elapsed_s"]

    def epoch(self, work: Work) -> Timed:
        """Train an epoch; return its wall seconds and CPU seconds."""
        answer = self._ask(do="epoch", work=work)
        return float(answer["train_s"]), float(answer["train_cpu_s"])

    def trial(self, params: dict[str, Any], seed: int) -> tuple[Timed, NDArray[np.float32]]:
        """Train with some hyper-parameters replaced; return its times and scores of the validation rows."""
        out_path = Path(self._scratch.name) / "validation.npy"
        answer = self._ask(do="trial", params=params, seed=seed, out=str(out_path))
        return (float(answer["train_s"]), float(answer["train_cpu_s"])), np.load(out_path, allow_pickle=False)

    def tune(self, space: dict[str, Any], num_trials: int, at_a_time: int, seed: int) -> dict[str, Any]:
        """Run a whole study; ours alone. See `lorefuse_runner.LorefuseRunner.tune`."""
        return self._ask(do="tune", space=space, num_trials=num_trials, at_a_time=at_a_time, seed=seed)

    def _ask(self, **command: Any) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the runner was started with pipes")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):  # what a library prints while it is imported
            line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            sys.exit(
                f"{self.name}: the runner ended while it was asked to {command['do']}\n{self._errors.read()[-3000:]}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=30)
        self._errors.close()
        self._scratch.cleanup()
