"""Downloads with a checksum and a cache: from a publisher's address, or out of a wheel of the package registry."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from lorefuse.atomic import atomic_file, sha256_file
from lorefuse.errors import ChecksumError, UnreachableError
from lorefuse.settings import settings

PUBLISHER_TIMEOUT_S = 8
_log = logging.getLogger(__name__)


def downloads_path() -> Path:
    """Return the folder of cached downloads."""
    return settings().cache_path / "downloads"


def fetch_url(url: str, checksum: str) -> Path:
    """Return the cached copy of a file, downloaded once and checked every time.

    Args:
        url: Publisher's address.
        checksum: As ``md5:…`` or ``sha256:…``.

    Raises:
        ChecksumError: The bytes differ from the published checksum.
        UnreachableError: The publisher does not answer, or `LOREFUSE_OFFLINE` is set.
    """
    import requests
    from pooch import HTTPDownloader

    path = downloads_path() / url.rsplit("/", 1)[-1]
    if path.exists() and _digest(path, checksum) == checksum:
        return path
    if settings().offline:
        raise UnreachableError(f"{url} was not asked.", got="LOREFUSE_OFFLINE is set", fix="unset it to download")
    try:
        with atomic_file(path) as draft_path:
            HTTPDownloader(timeout=PUBLISHER_TIMEOUT_S, progressbar=sys.stderr.isatty())(url, draft_path, None)
            check(draft_path, checksum, origin=url)
    except requests.RequestException as error:
        raise UnreachableError(f"{url} does not answer.", got=type(error).__name__, fix="try again later") from error
    return path


def fetch_wheel(requirement: str, sha256: str) -> Path:
    """Return the cached wheel of a package, fetched with the user's own pip configuration and never installed.

    Args:
        requirement: Exact, as ``recbole==1.2.1``.
        sha256: Of the wheel.

    Raises:
        ChecksumError: The bytes differ from the checksum.
        UnreachableError: The package registry does not answer.
    """
    name = requirement.replace("==", "-")
    path = downloads_path() / f"{name}.whl"
    if path.exists() and sha256_file(path) == sha256:
        return path
    _log.info("fetching %s from the package registry", requirement)
    with tempfile.TemporaryDirectory(prefix="lorefuse-") as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder]
        done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)  # noqa: S603
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise UnreachableError(
                f"The package registry did not give {requirement}.",
                got=(done.stderr.strip().splitlines() or ["no wheel"])[-1],
                fix="check the network and pip's configuration: pip config list",
            )
        check(wheels[0], f"sha256:{sha256}", origin=requirement)
        with atomic_file(path) as draft_path:
            draft_path.write_bytes(wheels[0].read_bytes())
    return path


def check(path: Path, checksum: str, *, origin: str) -> None:
    """Raise ChecksumError unless the file has this checksum, given as ``md5:…`` or ``sha256:…``."""
    got = _digest(path, checksum)
    if got != checksum:
        raise ChecksumError(
            f"{origin} is not the file that was published.",
            expected=checksum,
            got=got,
            fix=f"remove {downloads_path()} and run again; if it stays so, the source has changed: report it",
        )


def _digest(path: Path, checksum: str) -> str:
    algorithm = checksum.partition(":")[0]
    with path.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"
