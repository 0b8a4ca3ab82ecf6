"""Downloads with a checksum and a cache: from a publisher's address, or out of a wheel of the package registry."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorefuse.core.atomic import atomic_file, sha256_file
from lorefuse.core.errors import ChecksumError, UnreachableError
from lorefuse.core.settings import settings
from lorefuse.data.transfer import transfer

_log = logging.getLogger(__name__)


def downloads_path() -> Path:
    """Return the folder of cached downloads."""
    return settings().cache_path / "downloads"


def fetch_url(url: str, checksum: str | None = None) -> Path:
    """Return the cached copy of a file, downloaded once and checked every time.

    A transfer that broke off is continued, by this call or by a later one (see `transfer`).

    Args:
        url: Publisher's address.
        checksum: As ``md5:…`` or ``sha256:…``. None where the publisher gives none: the file is then compared with the
            sha256 that it had when it was fetched, which is kept beside it.

    Raises:
        ChecksumError: The bytes differ from the published checksum.
        UnreachableError: The publisher does not answer, or `LOREFUSE_OFFLINE` is set.
        ArtifactError: The disk is full.
    """
    path = downloads_path() / url.rsplit("/", 1)[-1]
    seal_path = path.with_name(path.name + ".sha256")
    if path.exists():
        expected = checksum or (seal_path.read_text("utf-8").strip() if seal_path.exists() else None)
        if expected and _digest(path, expected) == expected:
            return path
    if settings().offline:
        raise UnreachableError(f"{url} was not asked.", got="LOREFUSE_OFFLINE is set", fix="unset it to download")
    path.parent.mkdir(parents=True, exist_ok=True)
    part_path = path.with_name(f".{path.name}.part")
    with _alone(path):
        is_resumed = transfer(url, part_path)
        if checksum:
            if is_resumed and _digest(part_path, checksum) != checksum:
                _log.info("%s was continued and does not fit its checksum; it is fetched whole", path.name)
                part_path.unlink()
                transfer(url, part_path)
            try:
                check(part_path, checksum, origin=url)
            except ChecksumError:
                part_path.unlink()
                raise
        else:
            seal_path.write_text(f"sha256:{sha256_file(part_path)}\n", "utf-8")
            _log.info("%s has no published checksum; its sha256 is kept in %s", url, seal_path)
        part_path.replace(path)
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time fetch a file: two would write into one part."""
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
