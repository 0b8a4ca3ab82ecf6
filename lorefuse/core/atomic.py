"""Write beside, then rename: a killed process never leaves a half-written file or folder behind."""

from __future__ import annotations

import errno
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic_folder(target_path: Path) -> Iterator[Path]:
    """Yield a fresh folder beside `target_path`; on success it replaces the target, else it is removed.

    Several writers may finish at once: each puts a whole folder there, the last one stays.

    Args:
        target_path: Where the finished folder shall stand. An existing folder there is replaced.

    Yields:
        The folder to fill.
    """
    target_path.parent.mkdir(parents=True, exist_ok=True)
    draft_path = Path(tempfile.mkdtemp(prefix=f".{target_path.name}.", suffix=".partial", dir=target_path.parent))
    try:
        yield draft_path
        _put_in_place(draft_path, target_path)
    finally:
        shutil.rmtree(draft_path, ignore_errors=True)


def _put_in_place(draft_path: Path, target_path: Path) -> None:
    """Rename a finished folder to its target; what stands there, ours or another writer's, goes only after that."""
    old_paths: list[Path] = []
    while True:
        try:
            draft_path.rename(target_path)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # a folder with content, or a file
                raise
        with suppress(FileNotFoundError):  # another writer has just moved it
            old_paths.append(target_path.rename(draft_path.with_suffix(f".{len(old_paths)}.old")))
    for old_path in old_paths:
        shutil.rmtree(old_path, ignore_errors=True)


@contextmanager
def atomic_file(target_path: Path) -> Iterator[Path]:
    """Yield a file path beside `target_path`; on success it replaces the target, else it is removed.

    Threads, processes and containers may write the same file at once: each has its own draft, the last one stays.
    """
    target_path.parent.mkdir(parents=True, exist_ok=True)
    # neither a process id (threads share it, and every container has a 1) nor mkstemp (0600 for whoever reads it)
    draft_path = target_path.parent / f".{target_path.name}.{secrets.token_hex(8)}.partial"
    try:
        yield draft_path
        draft_path.replace(target_path)
    finally:
        draft_path.unlink(missing_ok=True)


def write_json(target_path: Path, content: Any) -> None:
    """Write JSON atomically: sorted keys, two spaces, so that equal content has equal bytes."""
    with atomic_file(target_path) as draft_path:
        draft_path.write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_folder(path: Path) -> str:
    """Return one hex sha256 over the names and contents of all files below `path`, dot files left out."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def sha256_json(content: Any) -> str:
    """Return the hex sha256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
