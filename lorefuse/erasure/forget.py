"""Forget a person: find them everywhere, remove what can be removed, and give what cannot a deadline.

The order is what makes a killed run safe to repeat. First comes the list that keeps the person out of every later
ingest; then what nobody could tell any more once the rest is done is written down: which versions were trained on them,
and which steps were made of their rows. Then the answers about them go (their tables name them), then files and folders
change, each by one rename. The receipt is last.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lorefuse.core.settings import settings
from lorefuse.core.step_cache import STEP_FILE
from lorefuse.erasure import caches
from lorefuse.erasure.note import Note
from lorefuse.erasure.person import Person
from lorefuse.erasure.places import PRIVACY_FOLDER, Place, search, step_of
from lorefuse.erasure.plan import Plan, plan
from lorefuse.erasure.receipt import write_receipt
from lorefuse.erasure.served import erase_served
from lorefuse.erasure.units import by_unit, erase_unit
from lorefuse.erasure.versions import erase_remote, registered, retag, retrain_days
from lorefuse.privacy.forgotten import Forgotten
from lorefuse.privacy.pseudonyms import from_environment
from lorefuse.privacy.retrain import due, queue


def forget(user_id: str, also: Sequence[Path] = ()) -> tuple[Path, dict[str, Any]]:
    """Remove a person; run again after a kill it goes on, and once done it changes nothing.

    Args:
        user_id: As in the raw data, or a pseudonym.
        also: Folders or files outside the home to remove them from as well.

    Returns:
        The receipt's path, and what it says: done, remaining (places that still name them), retrain (versions and
        their deadlines), sources (raw files that are not ours to edit), other_keys and texts_searched.

    Raises:
        UsageError: The id is empty, or a pseudonym of another key; or people are known by pseudonyms here, and there is
            no key.
        UnreachableError: The registry or Redis does not answer.
        DeployError: The server does not load what has changed; it goes on with what it holds.
    """
    home_path = settings().home_path
    with _alone(home_path):
        return _forget(user_id, also, home_path)


@contextmanager
def _alone(home_path: Path) -> Iterator[None]:
    """Hold the lock of a home's records: two erasures at once would lose one of them."""
    path = home_path / PRIVACY_FOLDER
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (path / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _forget(user_id: str, also: Sequence[Path], home_path: Path) -> tuple[Path, dict[str, Any]]:
    found = plan(user_id, also)
    forgotten = Forgotten.load(home_path).with_ids(found.person.names)
    forgotten.save(home_path)
    person = forgotten.hash_of(found.person.names[0])
    note = Note.open(home_path, person)
    _write_down(found, note)
    _erase_texts(found, note)
    _erase_files(found, note)
    _erase_versions(found.person, note)
    _erase_served(found.person, note)
    caches.drop(Path(entry["path"]) for entry in note.of("drop"))
    remaining = search([home_path, *also], found.person, home_path)
    content = {
        "person": person,
        "begun_at": note.of("begun")[0]["at"],
        "done": [*note.of("done"), *({"what": "deleted", "where": entry["path"]} for entry in note.of("drop"))],
        "retrain": note.of("retrain"),
        "sources": [entry["path"] for entry in note.of("source")],
        "remaining": [{"where": str(one.path), "what": one.holder.kind, "count": one.count} for one in remaining],
        "other_keys": found.other_keys,
        "texts_searched": found.person.is_searched_in_texts,
    }
    path = write_receipt(home_path, content, from_environment())
    note.close()
    return path, content


def _write_down(found: Plan, note: Note) -> None:
    """Keep what could not be found again by whoever goes on after a kill."""
    if not note.of("begun"):
        note.add("begun", at=datetime.now(UTC).isoformat(timespec="seconds"))
    for source in found.sources:
        note.add("source", path=source)
    for entry in queue(due(one.model, one.number, one.model_id, retrain_days(one)) for one in found.versions):
        note.add("retrain", **asdict(entry))
    for path in found.dropped:
        note.add("drop", path=str(path))


def _erase_texts(found: Plan, note: Note) -> None:
    for path in caches.drop_vectors(found.texts):
        note.add("done", what="deleted: vectors of texts, which can be encoded again", where=str(path))
    if count := caches.erase_answers(found.texts):
        where = str(settings().cache_path / caches.ANSWERS_FILE)
        note.add("done", what=f"removed {count} answers about them", where=where)
    if count := caches.erase_redis(found.person):
        note.add("done", what=f"removed {count} hashes", where="the online store in Redis")


def _erase_files(found: Plan, note: Note) -> None:
    drafts = caches.drafts_of(found.loose, settings().home_path)
    for path in drafts:
        note.add("done", what="deleted: a draft that was left behind", where=str(path))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    left_out = (settings().serve_path, *drafts)  # what is served is for `erase_served`
    loose = [place for place in found.loose if not any(map(place.path.is_relative_to, left_out))]
    for unit_path, places in by_unit(loose).items():
        note.add("done", what=_said(places), where=str(unit_path))
        erase_unit(unit_path, places, found.person)
        if step := step_of(unit_path):
            (step / STEP_FILE).unlink(missing_ok=True)  # no run may take it for what it was


def _erase_versions(person: Person, note: Note) -> None:
    """Let the registry follow: of the versions that this erasure has found, now or before it was killed."""
    mine = {entry["model_id"] for entry in note.of("retrain")}
    for version in registered():
        if version.model_id not in mine:
            continue
        if version.local_path is None:
            for uri in erase_remote(version, person):
                note.add("done", what="replaced", where=uri)
        retag(version, lambda old, new, store: note.add("digest", old=old, new=new, store=store))


def _erase_served(person: Person, note: Note) -> None:
    renamed = {entry["old"]: (entry["new"], entry["store"]) for entry in note.of("digest")}
    for path in erase_served(person, renamed):
        note.add("done", what="replaced, and loaded anew by a server that runs", where=str(path))


def _said(places: Sequence[Place]) -> str:
    return "removed " + ", ".join(f"{place.count} from {place.path.name} ({place.holder.kind})" for place in places)
