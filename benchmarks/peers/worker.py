"""A runner's process, seen from the benchmark that starts it."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers.environment import FOLDER, peer_python
from peers.process import Process
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
        # How threads wait is left to each library's own default, which its users have: epochs never run side by side.
        environment = {
            **{name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"},
            "OMP_NUM_THREADS": str(job.num_threads),
            "PYTHONPATH": os.pathsep.join([str(FOLDER.parents[1]), str(FOLDER)]) if name == OURS else str(FOLDER),
            "LOREFUSE_AS_SHIPPED": "1" if as_shipped else "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [str(python_path), str(FOLDER / f"{name}_runner.py")]
        self._process = Process(name, command, environment)
        self._scratch_path = self._process.scratch_path
        scratch = str(self._scratch_path)
        self._process.ask(do="open", folder=str(folder_path.resolve()), job=dataclasses.asdict(job), scratch=scratch)

    def fit(self, seed: int) -> tuple[NDArray[np.float32], float]:
        """Train with early stopping; return scores of the test rows, and seconds."""
        out_path = self._scratch_path / "scores.npy"
        answer = self._process.ask(do="fit", seed=seed, out=str(out_path))
        return np.load(out_path, allow_pickle=False), answer["elapsed_s"]

    def epoch(self, work: Work) -> Timed:
        """Train an epoch; return its wall seconds and CPU seconds."""
        answer = self._process.ask(do="epoch", work=work)
        return float(answer["train_s"]), float(answer["train_cpu_s"])

    def trial(self, params: dict[str, Any], seed: int) -> tuple[Timed, NDArray[np.float32]]:
        """Train with some hyper-parameters replaced; return its times and scores of the validation rows."""
        out_path = self._scratch_path / "validation.npy"
        answer = self._process.ask(do="trial", params=params, seed=seed, out=str(out_path))
        return (float(answer["train_s"]), float(answer["train_cpu_s"])), np.load(out_path, allow_pickle=False)

    def tune(self, space: dict[str, Any], num_trials: int, at_a_time: int, seed: int) -> dict[str, Any]:
        """Run a whole study; ours alone. See `lorefuse_runner.LorefuseRunner.tune`."""
        return self._process.ask(do="tune", space=space, num_trials=num_trials, at_a_time=at_a_time, seed=seed)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()
