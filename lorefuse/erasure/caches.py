"""Caches without a person: finished steps and runs go, answers about them go, vectors of their texts go."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from lorefuse.core.settings import settings
from lorefuse.core.step_cache import STEP_FILE, descendants, read_digest
from lorefuse.deploy.deploy import DEPLOYED_FILE
from lorefuse.erasure.person import Person
from lorefuse.erasure.places import Place, run_of, step_of

ANSWERS_FILE = "answers.sqlite"
_BATCH = 500


def steps_of(places: Iterable[Place]) -> list[Path]:
    """Return the steps that hold a person by name, and all that were made of those: the rows have no name in them."""
    named = {step for place in places if (step := step_of(place.path))}
    finished = {step for step in named if (step / STEP_FILE).is_file()}
    return sorted({*named, *descendants({read_digest(step) for step in finished})})


def kept_steps() -> set[Path]:
    """Return the steps that stand for what is served: they change in place, and no run takes them for finished."""
    path = settings().serve_path / DEPLOYED_FILE
    if not path.is_file():
        return set()
    content = json.loads(path.read_text("utf-8"))
    return {step for name in ("bundle_path", "store_path") if (step := step_of(Path(content[name])))}


def runs_of(places: Iterable[Place], steps: Sequence[Path], home_path: Path) -> list[Path]:
    """Return the folders of runs that hold a person, or copies of steps that were made of their rows.

    Args:
        places: What was found.
        steps: From `steps_of`.
        home_path: The home.
    """
    found = {run for place in places if (run := run_of(place.path, home_path))}
    digests = {read_digest(step) for step in steps if (step / STEP_FILE).is_file()}
    for mark in home_path.glob(f"runs/*/**/{STEP_FILE}"):
        if read_digest(mark.parent) in digests and (run := run_of(mark, home_path)):
            found.add(run)
    return sorted(found)


def drop(paths: Iterable[Path]) -> None:
    """Remove folders: each is renamed first, so that nobody takes a half-removed one for whole."""
    for path in paths:
        target = path.with_name(f".{path.name.lstrip('.')}.forgotten.partial")
        shutil.rmtree(target, ignore_errors=True)  # of one that was killed
        if path.is_dir():
            path.rename(target)
            shutil.rmtree(target)


def drafts_of(places: Iterable[Place], home_path: Path) -> list[Path]:
    """Return what writers that were killed have left beside its target, and what holds a person."""
    found = set()
    for place in places:
        parts = place.path.relative_to(home_path).parts if place.path.is_relative_to(home_path) else ()
        for number, name in enumerate(parts, start=1):
            if name.startswith(".") and name.endswith((".partial", ".old")):
                found.add(home_path.joinpath(*parts[:number]))
                break
    return sorted(found)


def erase_answers(texts: set[str]) -> int:
    """Remove what a language model has written about a person from the store of answers; return how many there were."""
    path = settings().cache_path / ANSWERS_FILE
    if not (texts and path.is_file()):
        return 0
    wanted, removed = sorted(texts), 0
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        for start in range(0, len(wanted), _BATCH):
            part = wanted[start : start + _BATCH]
            with connection:
                marks = ", ".join("?" * len(part))
                removed += connection.execute(f"DELETE FROM answers WHERE text IN ({marks})", part).rowcount  # noqa: S608
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return removed


def drop_vectors(texts: set[str]) -> list[Path]:
    """Remove the cache of vectors where a person has texts: it is addressed by hashes, and can be encoded again."""
    if not texts:
        return []
    found = sorted(settings().cache_path.glob("embeddings.sqlite*"))
    for path in found:
        path.unlink()
    return found


def erase_redis(person: Person) -> int:
    """Remove a person's hashes from Redis, in every project; return how many there were.

    Raises:
        UnreachableError: It does not answer.
    """
    from lorefuse.core.stores import redis_client

    url, removed = settings().online_store_url, 0
    if not url:
        return 0
    with redis_client(url) as client:
        for key in person.entity_keys:
            pattern = b"".join(b"\\" + bytes([one]) if bytes([one]) in b"*?[]\\^" else bytes([one]) for one in key)
            found = list(client.scan_iter(match=pattern + b"lorefuse_*", count=10_000))
            removed += int(client.delete(*found)) if found else 0  # type: ignore[arg-type]
    return removed
