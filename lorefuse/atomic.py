"""Write beside, then rename: a killed process never leaves a half-written file or folder behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_folder(target_path: Path) -> Iterator[Path]:
    """Yield a fresh folder beside `target_path`; on success it replaces the target, else it is removed.

    Args:
        target_path: Where the finished folder shall stand. An existing folder there is replaced.

    Yields:
        The folder to fill.
    """
    target_path.parent.mkdir(parents=True, exist_ok=True)
    draft_path = Path(tempfile.mkdtemp(prefix=f".{target_path.name}.", suffix=".partial", dir=target_path.parent))
    try:
        yield draft_path
        old_path = draft_path.with_suffix(".old")
        if target_path.exists():
            target_path.rename(old_path)
        draft_path.rename(target_path)
        shutil.rmtree(old_path, ignore_errors=True)
    finally:
        shutil.rmtree(draft_path, ignore_errors=True)


@contextmanager
def atomic_file(target_path: Path) -> Iterator[Path]:
    """Yield a file path beside `target_path`; on success it replaces the target, else it is removed."""
    target_path.parent.mkdir(parents=True, exist_ok=True)
    draft_path = target_path.parent / f".{target_path.name}.{os.getpid()}.partial"
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
