"""The home folder, looked at before anything starts: one that cannot work must not cost a run."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from lorefuse.core.errors import ConfigError

_IMPOSSIBLE = re.compile(r"[?\x00-\x1f\x7f\udc80-\udcff]|%[0-9A-Fa-f]{2}")
"""What a database's URL cannot hold: MLflow would read it as options or another path, and write elsewhere."""
_FIX = "set LOREFUSE_HOME to another folder"


def check_home(path: Path) -> None:
    """Refuse a home whose path cannot be written into a URL.

    Raises:
        ConfigError: It holds a question mark, a percent sign with two hexadecimal digits, a control character, or
            bytes that are not UTF-8.
    """
    found = _IMPOSSIBLE.search(str(path))
    if found:
        raise ConfigError(
            f"The home {os.fsencode(path)!r} has a path that MLflow's database cannot have.",
            expected="any letters, digits, spaces and signs but ? and %20 (a percent sign and two digits)",
            got=repr(found[0]),
            fix=_FIX,
        )


def make_home(path: Path) -> None:
    """Make the home where it is missing, for its owner alone: caches and stores hold ids of users."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def require_writable(path: Path) -> None:
    """Make the home where it is missing, and refuse one that nothing can be written to.

    Raises:
        ConfigError: It cannot be made, or a file in it cannot.
    """
    try:
        make_home(path)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(
            f"The home {path} cannot be written to.",
            expected="a folder, or a place for one, on a disk with room",
            got=str(error),
            fix=_FIX,
        ) from None
