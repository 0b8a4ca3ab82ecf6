"""Finished steps, addressed by what went into them: an unchanged step is reused, and says so.

A step's address is the sha256 of its name, its config, the digests of its inputs and the library's code that it
depends on, which is found by the imports of the function that builds it.
A finished step is a folder that appeared by one rename, so a killed run leaves nothing to mistake for a result:
run again, the same inputs give the same result as an undisturbed run.
"""

from __future__ import annotations

import functools
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import atomic_folder, sha256_folder, sha256_json
from lorefuse.core.closure import PACKAGE, closure_of
from lorefuse.core.errors import ArtifactError
from lorefuse.core.settings import settings

STEP_FILE = ".step.json"
_SOURCES = ("ingest", "choose", "champion")
"""Steps that read no other step's data."""
_ALWAYS = ("lorefuse.core.schema", "lorefuse.core.step_cache")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepResult:
    """A finished step.

    Attributes:
        step: Its name.
        path: Folder with the step's files; read-only by convention.
        digest: sha256 over the folder's files.
        reused: True where an earlier run had already finished this very step.
        elapsed_s: Seconds this call took.
        summary: Counts and facts worth a line in the log.
    """

    step: str
    path: Path
    digest: str
    reused: bool
    elapsed_s: float
    summary: dict[str, Any]

    def publish(self, target_path: Path | str) -> None:
        """Copy the step to where a pipeline wants its artifact, by hard links where possible.

        Raises:
            ArtifactError: The disk is full or not writable; nothing half-written is left.
        """
        try:
            with atomic_folder(Path(target_path)) as draft_path:
                shutil.copytree(self.path, draft_path, copy_function=_link_or_copy, dirs_exist_ok=True)
        except OSError as error:
            raise ArtifactError(
                f"The result of step {self.step} could not be written to {target_path}.",
                expected=f"room and permission below {Path(target_path).parent}",
                got=str(error),
                fix="free space on that disk, or set LOREFUSE_HOME to another one, then run again",
            ) from error


@functools.cache
def code_digest(*rooms: str) -> str:
    """Return the sha256 of what `rooms` (folders of `lorefuse/`) and finished steps depend on: see `closure`."""
    return closure_of([*_ALWAYS, *(f"{PACKAGE}.{room}" for room in rooms)]).digest()


@functools.cache
def _build_digest(module: str, function: str, rooms: tuple[str, ...]) -> str:
    starts = [f"{module}.{function}", *(f"{PACKAGE}.{room}" for room in rooms)]
    return closure_of([*_ALWAYS, *starts]).digest()


def read_digest(path: Path) -> str:
    """Return the digest of a finished step's folder, or compute it for a folder that came from elsewhere."""
    step = _read_step(path)
    return str(step["digest"]) if step else sha256_folder(path)


def origin(path: Path) -> Path:
    """Return the cached folder that a published artifact was copied from, or `path` itself where it is gone.

    Artifacts below a pipeline's root come and go with the run; the cached folder stays, so paths that are written
    down (in a feature registry, say) should be the cached ones.
    """
    step = _read_step(path)
    if step and (cached := Path(step["path"])).is_dir() and read_digest(cached) == step["digest"]:
        return cached
    return path


def reuse_or_build(
    step: str,
    *,
    config: Any,
    inputs: Mapping[str, Path],
    rooms: tuple[str, ...] = (),
    build: Callable[[Path], dict[str, Any] | None],
) -> StepResult:
    """Return the finished step for these inputs, building it only where no earlier run has.

    Args:
        step: Name of the step; also the folder below `<home>/cache/steps`.
        config: Whatever else decides the result, JSON-able.
        inputs: Folders the step reads, by name; their content is part of the address.
        rooms: Folders of `lorefuse/` whose code counts too, beside what `build` reaches by its imports.
        build: Fills the folder it is given and may return a summary; called at most once.

    Returns:
        The finished step; a reused one has had its bytes checked against its digest.

    Raises:
        ArtifactError: The disk is full or not writable.
    """
    start_s = time.perf_counter()
    digests = {name: read_digest(path) for name, path in inputs.items()}
    address = sha256_json(
        {
            "step": step,
            "config": config,
            "code": _build_digest(build.__module__, build.__qualname__.partition(".")[0], rooms),
            "inputs": digests,
        }
    )
    path = steps_path() / step / address[:24]
    if path.exists():
        finished = _read_step(path)
        if finished and sha256_folder(path) == finished["digest"]:
            return StepResult(step, path, finished["digest"], True, time.perf_counter() - start_s, finished["summary"])
        _log.warning("%s: the finished folder %s is damaged; building it again", step, path)
        shutil.rmtree(path)
    try:
        with atomic_folder(path) as draft_path:
            summary = build(draft_path) or {}
            digest = sha256_folder(draft_path)
            content = {"step": step, "digest": digest, "path": str(path), "inputs": digests, "summary": summary}
            (draft_path / STEP_FILE).write_text(json.dumps(content, default=str), "utf-8")
    except OSError as error:
        raise ArtifactError(
            f"Step {step} could not write its result.",
            expected=f"room and permission below {path.parent}",
            got=str(error),
            fix="free space on that disk, or set LOREFUSE_HOME to another one, then run again",
        ) from error
    return StepResult(step, path, digest, False, time.perf_counter() - start_s, summary)


def steps_path() -> Path:
    """Return the folder of all finished steps: ``<step>/<address>``."""
    return settings().cache_path / "steps"


def descendants(digests: set[str]) -> list[Path]:
    """Return the finished steps with one of these digests, and those made of them, however far down.

    A step of an older release does not say what it was made of; it counts as one of them unless it reads nothing.
    """
    steps = {path.parent: _read_step(path.parent) for path in sorted(steps_path().glob(f"*/[!.]*/{STEP_FILE}"))}
    known, found = set(digests), set[Path]()
    while True:
        more = {
            path
            for path, step in steps.items()
            if step and path not in found and (step["digest"] in known or not known.isdisjoint(_made_of(step, known)))
        }
        if not more:
            return sorted(found)
        found |= more
        known |= {str(step["digest"]) for path in more if (step := steps[path])}


def _made_of(step: dict[str, Any], known: set[str]) -> set[str]:
    if "inputs" in step:
        return set(step["inputs"].values())
    return set() if step["step"] in _SOURCES else known


def _read_step(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((path / STEP_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    complete = isinstance(content, dict) and {"digest", "path", "summary"} <= content.keys()
    return content if complete else None


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
