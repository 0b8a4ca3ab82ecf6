"""What is known of this home's own MLflow server: its process, its port and its login."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import atomic_file
from lorefuse.core.processes import identity
from lorefuse.core.settings import settings

HOST, DEFAULT_PORT, USER = "127.0.0.1", 5500, "lorefuse"


def password_path() -> Path:
    """Return the file with the password of this home's server."""
    return settings().home_path / "mlflow" / "password"


def own_login(uri: str) -> tuple[str, str] | None:
    """Return user and password of a server, where it is this home's own and runs; None of any other.

    Nobody else gets the password: a foreign program on the port of a server that has ended would not be its process.
    """
    known = read_pid()
    own = known is not None and uri.rstrip("/") in {f"http://{name}:{known['port']}" for name in (HOST, "localhost")}
    return (USER, kept_secret(password_path())) if own else None


def kept_secret(path: Path) -> str:
    """Return a random secret of this home, made on first use: 32 bytes, for the owner of the home alone."""
    if not path.is_file():
        with atomic_file(path) as draft_path:
            draft_path.touch(mode=0o600)
            draft_path.write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
    return path.read_text("ascii").strip()


def read_pid() -> dict[str, Any] | None:
    """Return the pid file's content, but only while that very process still runs (pids are used again)."""
    import psutil

    try:
        known = dict(json.loads(pid_path().read_text("utf-8")))
        process = psutil.Process(int(known["pid"]))
        if "identity" in known:
            same = identity(process.pid) == known["identity"]
        else:  # started by version 0.1.0
            same = abs(process.create_time() - float(known["created"])) < 1
        same = same and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return known if same else None


def pid_path() -> Path:
    """Return the file that says which process is this home's server."""
    return settings().home_path / "mlflow" / "server.json"
