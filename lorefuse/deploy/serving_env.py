"""The environment that Triton runs in: another than this one, since its stubs need numpy below 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lorefuse.core.atomic import sha256_file, sha256_json
from lorefuse.core.errors import DeployError
from lorefuse.core.progress import track
from lorefuse.core.settings import settings

LOCKS = ("requirements.lock", "triton.lock")
_READY_FILE = ".lorefuse"
"""In the environment: the digest of the locks that it was made from."""


def make_serving_env() -> Path:
    """Make the serving environment from its locks, or return it where it is there already, such as make's.

    Returns:
        Its interpreter, `settings().serve_python_path`.

    Raises:
        DeployError: It cannot be made.
    """
    python_path = settings().serve_python_path
    env_path, locks_path = python_path.parents[1], settings().folder("serving")
    digest = sha256_json([sha256_file(locks_path / name) for name in LOCKS])
    ready_path = env_path / _READY_FILE
    if python_path.exists() and not ready_path.exists():
        return python_path  # somebody's own, such as make's
    if ready_path.exists() and ready_path.read_text("utf-8") == digest:
        return python_path
    env_path.mkdir(parents=True, exist_ok=True)
    ready_path.write_text("being made", "utf-8")  # one that was cut short is made again
    pip = [str(python_path), "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r"]
    commands = [[sys.executable, "-m", "venv", str(env_path)], *([*pip, str(locks_path / name)] for name in LOCKS)]
    for command in track(commands, f"Making {env_path.name} (Triton and onnxruntime)", total=len(commands)):
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (fixed arguments)
        if done.returncode:
            raise DeployError(
                f"The serving environment {env_path} could not be made.",
                expected="a package registry that answers, and room on the disk",
                got=(done.stderr.strip().splitlines() or ["no output"])[-1],
                fix="lorefuse setup-serving tries again",
            )
    ready_path.write_text(digest, "utf-8")
    return python_path
