"""What runs in a peer's process: commands come in as JSON lines, answers go out as JSON lines. numpy alone.

Every runner, ours among them, is a class with `Runner`'s two methods in a file of its own, started in the environment
of its library. A process that is not asked waits on its input and takes no CPU, so runs can alternate between peers.

``R`` rows, ``F`` fields, ``L`` history length.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

TRAIN, VALIDATION, TEST, EXCLUDED = range(4)
"""Codes of `Rows.part`."""
Work = Literal["own", "steps"]
"""A peer's own loop with its own data loader, or its training steps alone on batches that are tensors already."""
Timed = tuple[float, float]
"""Wall seconds and CPU seconds."""


@dataclass(frozen=True)
class Rows:
    """The rows that all peers read, from the interchange folder.

    Attributes:
        fields: int64 (R, F) encoded categories; 0 is unseen.
        label: float32 (R,) 0 or 1.
        part: uint8 (R,).
        history: int64 (R, L) encoded recent liked items, oldest first, padded with 0 on the left.
        names: Of the F fields.
        sizes: Of their vocabularies, index 0 included.
        num_user_fields: The first fields are the user's; each side's first is its id.
    """

    fields: np.ndarray
    label: np.ndarray
    part: np.ndarray
    history: np.ndarray
    names: list[str]
    sizes: list[int]
    num_user_fields: int

    @classmethod
    def load(cls, folder_path: Path) -> Rows:
        """Read `rows.npz` and `fields.json`."""
        with np.load(folder_path / "rows.npz", allow_pickle=False) as arrays:
            content = json.loads((folder_path / "fields.json").read_text("utf-8"))
            return cls(**{name: arrays[name] for name in ("fields", "label", "part", "history")}, **content)

    def of(self, part: int) -> np.ndarray:
        """Return the positions of a part's rows."""
        return np.flatnonzero(self.part == part)


@dataclass(frozen=True)
class Job:
    """Hyper-parameters that all peers share.

    Attributes:
        family: ``deepfm``, ``dcn_v2`` or ``din``.
        embedding_dim: Width of a field's vector.
        hidden_dims: Widths of the MLP.
        dropout: After each hidden layer.
        num_cross_layers: Of DCN-V2.
        learning_rate: Adam's.
        batch_size: Rows a step.
        max_epochs: At most.
        patience: Epochs without a lower validation loss before stopping.
        num_threads: torch threads.
    """

    family: str
    embedding_dim: int = 16
    hidden_dims: tuple[int, ...] = (128, 64)
    dropout: float = 0.2
    num_cross_layers: int = 2
    learning_rate: float = 1e-3
    batch_size: int = 2048
    max_epochs: int = 30
    patience: int = 2
    num_threads: int = 1


class Runner(Protocol):
    """A library that can train a `Job` on `Rows`."""

    def fit(self, seed: int) -> np.ndarray:
        """Train with early stopping; return scores of all test rows, in order."""

    def epoch(self, work: Work) -> Timed:
        """Train one epoch on all train rows, without evaluation; return what it took."""


class TunedRunner(Runner, Protocol):
    """A library whose hyper-parameters can be searched from outside, one trial at a time."""

    def trial(self, params: dict[str, float], seed: int) -> tuple[Timed, np.ndarray]:
        """Train with some of the job's hyper-parameters replaced, stopping on the validation logloss.

        Returns what the training took and the scores of all validation rows, in order; scoring them is not timed.
        """


def timed(work: Callable[[], object]) -> Timed:
    """Return wall seconds and this process's CPU seconds (all threads) of some work."""
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start_s, time.process_time() - cpu_start_s


def serve(make: Callable[[Rows, Job, Path], Runner]) -> None:
    """Answer commands until the input ends. What a library prints goes to the error stream."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runner: Runner | None = None
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        start_s = time.perf_counter()
        answer: dict[str, Any] = {}
        if command["do"] == "open":
            folder_path = Path(command["folder"])
            job = Job(**{**command["job"], "hidden_dims": tuple(command["job"]["hidden_dims"])})
            runner = make(Rows.load(folder_path), job, Path(command["scratch"]))
        elif command["do"] == "fit":
            np.save(command["out"], runner.fit(command["seed"]))
        elif command["do"] == "trial":
            (answer["train_s"], answer["train_cpu_s"]), scores = runner.trial(command["params"], command["seed"])
            np.save(command["out"], scores)
        elif command["do"] == "tune":
            answer |= runner.tune(command["space"], command["num_trials"], command["at_a_time"], command["seed"])
        else:
            answer["train_s"], answer["train_cpu_s"] = runner.epoch(command["work"])
        answer["elapsed_s"] = time.perf_counter() - start_s
        # On a line of its own: a library's thread may have printed half a line before `dup2`.
        print(f"\n{json.dumps(answer)}", file=answers, flush=True)
