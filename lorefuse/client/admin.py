"""The key of a server's administrative calls: loading models, shared memory, tracing and logging.

Triton runs what it is told to load, so whoever may say that runs code of their own. A server of this project answers
those calls to holders of a random key alone; questions need none.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from lorefuse.core.errors import ConfigError
from lorefuse.core.settings import settings

VARIABLE = "LOREFUSE_TRITON_ADMIN_KEY"
KEY_FILE = "triton.key"
NAME = "lorefuse-admin"
RESTRICTED = "model-repository,shared-memory,trace,logging"
"""Triton's names of the calls that need the key."""
_GRPC_PREFIX = "triton-grpc-protocol-"


def admin_key(serve_path: Path | None = None) -> str:
    """Return the key of the server that lives in a folder, or that the environment gives; empty where there is none.

    Args:
        serve_path: Default: the home's own.
    """
    try:
        return ((serve_path or settings().serve_path) / KEY_FILE).read_text("ascii")
    except OSError:
        return os.environ.get(VARIABLE, "")


def key_for_a_start() -> str:
    """Return what a server that starts now is to ask for: the environment's key, or a random one.

    Raises:
        ConfigError: The environment's key cannot be written into a server's options, or is easily guessed.
    """
    given = os.environ.get(VARIABLE)
    if given and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", given):
        raise ConfigError(
            f"{VARIABLE} is no key.", expected="16 or more of A-Z a-z 0-9 _ -", fix="openssl rand -hex 32, or unset it"
        )
    return given or secrets.token_urlsafe(32)


def admin_headers(key: str) -> dict[str, str]:
    """Return the gRPC metadata of an administrative call."""
    return {_GRPC_PREFIX + NAME: key} if key else {}


def restriction(key: str) -> str:
    """Return the value of Triton's `--grpc-restricted-protocol` and `--http-restricted-api`."""
    return f"{RESTRICTED}:{NAME}={key}"
