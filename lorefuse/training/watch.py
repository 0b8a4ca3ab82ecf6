"""What processes that learn have taken, for the message where one of them dies."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from lorefuse.core.errors import LorefuseError

PERIOD_S, CODE_S = 0.2, 2.0
_IN_PIPELINE = ("choose", "tune", "evaluate", "lists")
"""Steps that learn and have resources of their own in a cluster file."""


class Watch:
    """Looks at this process's children while it is entered, and remembers the most memory that each has held."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._children: dict[int, BaseProcess] = {}
        self._peak_bytes: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def death(self, step: str) -> LorefuseError:
        """Return what to say of a child that has died: of which step, how, with how much memory, and what to change.

        Args:
            step: Its name.
        """
        self._ended.set()
        self._thread.join()
        codes, dead = self._codes()
        pid = max(dead or codes, key=lambda one: self._peak_bytes.get(one, 0), default=0)
        taken = f"it had taken {self._peak_bytes[pid] / 1e9:.2f} GB" if pid in self._peak_bytes else ""
        in_cluster = f" (in a cluster steps.{step}.memory_limit)" if step in _IN_PIPELINE else ""
        one_by_one = "set LOREFUSE_MAX_LEARNERS=1, so that they run one by one; " if len(codes) > 1 else ""
        return LorefuseError(
            f"A process of the step {step} {_how(codes.get(pid))}.",
            expected=f"memory for {max(1, len(codes))} of them at once",
            got=f"{taken or 'an end without a result'}; most often the system kills it for want of memory",
            fix=f"{one_by_one}give it more memory{in_cluster}, or less to hold: a smaller "
            "embedding.reduce_dim, fewer data.negatives.num_train; what is finished is kept",
        )

    def _codes(self) -> tuple[dict[int, int | None], list[int]]:
        """Return exit codes by process, and those that died; a dead one's code may be a moment late."""
        end_s = time.monotonic() + CODE_S
        while True:
            codes = {pid: child.exitcode for pid, child in self._children.items()}
            # The pool ends those that are left, by SIGTERM, once one has died.
            dead = [pid for pid, code in codes.items() if code not in (None, 0, -signal.SIGTERM)]
            if dead or time.monotonic() > end_s:
                return codes, dead
            time.sleep(0.01)

    def _look(self) -> None:
        while not self._ended.wait(PERIOD_S if self._children else PERIOD_S / 10):
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    self._children[child.pid] = child
                    self._peak_bytes[child.pid] = max(self._peak_bytes.get(child.pid, 0), _peak_bytes(child.pid))


def _how(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "was killed by the system (SIGKILL)"
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}" if code is not None else "ended without a result"


def _peak_bytes(pid: int) -> int:
    """Return the largest resident set of a process; 0 where the system does not say (it has ended, or is no Linux)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
