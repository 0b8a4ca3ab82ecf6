"""Finished steps, addressed by what went into them: an unchanged step is reused, and says so.

A step's address is the sha256 of its name, its config, the digests of its inputs and the library's own code.
A finished step is a folder that appeared by one rename, so a killed run leaves nothing to mistake for a result:
run again, the same inputs give the same result as an undisturbed run.
"""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorefuse.atomic import atomic_folder, sha256_folder, sha256_json
from lorefuse.errors import ArtifactError
from lorefuse.settings import settings

DIGEST_FILE = ".digest.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepResult:
    """A finished step.

    Attributes:
        path: Folder with the step's files; read-only by convention.
        digest: sha256 over the folder's files.
        reused: True where an earlier run had already finished this very step.
    """

    path: Path
    digest: str
    reused: bool


@functools.cache
def code_digest(*rooms: str) -> str:
    """Return the sha256 of the library's Python files in `rooms` (folders of `lorefuse/`) and its top level."""
    package_path = Path(__file__).parent
    files = list(package_path.glob("*.py"))
    for room in rooms:
        files += (package_path / room).rglob("*.py")
    return sha256_json({str(f.relative_to(package_path)): f.read_text("utf-8") for f in sorted(files)})


def read_digest(path: Path) -> str:
    """Return the digest of a finished step's folder, or compute it for a folder that came from elsewhere."""
    digest_path = path / DIGEST_FILE
    if digest_path.exists():
        return str(json.loads(digest_path.read_text("utf-8"))["digest"])
    return sha256_folder(path)


def reuse_or_build(
    step: str,
    *,
    config: Any,
    inputs: Mapping[str, Path],
    rooms: tuple[str, ...],
    build: Callable[[Path], None],
    verify: bool = True,
) -> StepResult:
    """Return the finished step for these inputs, building it only where no earlier run has.

    Args:
        step: Name of the step; also the folder below `<home>/cache/steps`.
        config: Whatever else decides the result, JSON-able.
        inputs: Folders the step reads, by name; their content is part of the address.
        rooms: Folders of `lorefuse/` whose code decides the result.
        build: Fills the folder it is given; called at most once.
        verify: Check the bytes of a reused step against its digest.

    Returns:
        The finished step.
    """
    address = sha256_json(
        {
            "step": step,
            "config": config,
            "code": code_digest(*rooms),
            "inputs": {name: read_digest(path) for name, path in inputs.items()},
        }
    )
    path = settings().cache_path / "steps" / step / address[:24]
    if path.exists():
        digest = _verified_digest(path) if verify else read_digest(path)
        if digest is not None:
            _log.info("%s: reused, nothing it depends on has changed (%s)", step, path.name)
            return StepResult(path, digest, reused=True)
        _log.warning("%s: the finished folder %s is damaged; building it again", step, path)
        shutil.rmtree(path)
    with atomic_folder(path) as draft_path:
        build(draft_path)
        digest = sha256_folder(draft_path)
        (draft_path / DIGEST_FILE).write_text(json.dumps({"digest": digest, "step": step}), "utf-8")
    _log.info("%s: built (%s)", step, path.name)
    return StepResult(path, digest, reused=False)


def _verified_digest(path: Path) -> str | None:
    try:
        stored = str(json.loads((path / DIGEST_FILE).read_text("utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        return None
    return stored if sha256_folder(path) == stored else None


def publish(result: StepResult, target_path: Path) -> None:
    """Copy a finished step to where a pipeline wants its artifact, digest included; hard links where possible."""
    with atomic_folder(target_path) as draft_path:
        draft_path.rmdir()
        try:
            shutil.copytree(result.path, draft_path, copy_function=_link_or_copy)
        except OSError as error:
            raise ArtifactError(
                f"The result of a step could not be written to {target_path}.",
                expected=f"room and permission below {target_path.parent}",
                got=str(error),
                fix="free space on that disk, or set LOREFUSE_HOME to another one, then run again",
            ) from error


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
