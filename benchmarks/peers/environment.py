"""Environments of the peers: made on demand from one lock file each, under `.lorefuse/peers/<name>`.

Peers never enter the product's environment: FuxiCTR brings ray, DeepCTR-Torch TensorFlow, pytorch-widedeep numpy 1.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PEERS_PATH = Path(os.environ.get("LOREFUSE_PEERS", FOLDER.parents[1] / ".lorefuse" / "peers"))


class PeerUnavailableError(Exception):
    """A peer's environment cannot be made here; the message says why."""


def peer_python(name: str) -> Path:
    """Return the interpreter of a peer's environment, installing it the first time or after its lock has changed.

    Args:
        name: A lock file's name without its ending. Extra arguments for pip come from `PIP_ARGS`.

    Raises:
        PeerUnavailableError: pip could not install the lock.
    """
    lock_path = FOLDER / f"{name}.lock"
    digest = hashlib.sha256(lock_path.read_bytes()).hexdigest()
    folder_path = PEERS_PATH / name
    python_path, stamp_path = folder_path / "bin" / "python", folder_path / ".lock-sha256"
    if stamp_path.is_file() and stamp_path.read_text("utf-8") == digest:
        return python_path
    print(f"Setting up {folder_path} from {lock_path.name}: minutes, the first time", file=sys.stderr, flush=True)
    shutil.rmtree(folder_path, ignore_errors=True)
    pip = [str(python_path), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(folder_path)],
        [*pip, *shlex.split(os.environ.get("PIP_ARGS", "")), "-r", str(lock_path)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-3:])
            raise PeerUnavailableError(f"the environment of {name} cannot be made: {last}")
    stamp_path.write_text(digest, "utf-8")
    return python_path
