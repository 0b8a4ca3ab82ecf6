"""A runner in a process of its own, asked by JSON lines: while it is not asked it waits, and takes no CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Process:
    """Starts a command, and asks it one thing at a time.

    Args:
        name: For messages.
        command: What to start.
        env: Its environment; null: this process's.

    Attributes:
        scratch_path: An empty folder, where the command runs; it is gone with the process.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._scratch = tempfile.TemporaryDirectory()
        self.scratch_path = Path(self._scratch.name)
        self._errors = (self.scratch_path / "errors.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=self.scratch_path,
            env=env,
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a line, and return the line that answers.

        Raises:
            SystemExit: The process has ended; its last lines are shown.
        """
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
            sys.exit(f"{self.name}: the runner ended on {json.dumps(command)[:300]}\n{self._errors.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process, and wait for it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=30)
        self._errors.close()
        self._scratch.cleanup()
