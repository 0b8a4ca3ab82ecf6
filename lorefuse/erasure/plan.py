"""What is held of a person, and so what an erasure will do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lorefuse.core.errors import UsageError
from lorefuse.core.schema import DatasetFile
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import read_digest
from lorefuse.erasure import caches
from lorefuse.erasure.holders import texts_of
from lorefuse.erasure.person import Person
from lorefuse.erasure.places import Place, run_of, search, sources_of, step_of
from lorefuse.erasure.versions import Version, holds, registered
from lorefuse.privacy.pseudonyms import KEY_VARIABLE, Pseudonymizer, fingerprint_of, from_environment


@dataclass(frozen=True)
class Plan:
    """What is held of a person.

    Attributes:
        person: Whom.
        places: Files that name them.
        dropped: Finished steps that name them or were made of their rows, and folders of runs with copies of those:
            they are deleted, and the next run makes them anew.
        versions: Model versions that were trained on them, or carry their features.
        texts: What they wrote, or a language model about them.
        sources: Raw files that are not ours to edit.
        other_keys: Fingerprints of keys under which the home knows people too, and which are not at hand.
    """

    person: Person
    places: list[Place]
    dropped: list[Path]
    versions: list[Version]
    texts: set[str]
    sources: list[str]
    other_keys: list[str]

    @property
    def loose(self) -> list[Place]:
        """Places that are not in a step or a run that goes as a whole."""
        gone, home_path = set(self.dropped), settings().home_path
        return [
            place
            for place in self.places
            if step_of(place.path) not in gone and run_of(place.path, home_path) not in gone
        ]


def plan(user_id: str, also: Sequence[Path] = ()) -> Plan:
    """Find a person.

    Args:
        user_id: As in the raw data, or a pseudonym.
        also: Folders or files outside the home to look through as well.

    Raises:
        UsageError: The id is empty, or a pseudonym of another key; or people are known by pseudonyms here, and there is
            no key.
        UnreachableError: The registry does not answer.
    """
    home_path, names = settings().home_path, from_environment()
    person = Person.of(user_id, names)
    other_keys = _other_keys(user_id, names, home_path)
    places = search([home_path, *also], person, home_path)
    steps = caches.steps_of(places)
    # Somebody whose lines were all set aside taught no model anything.
    taught = {step_of(place.path) for place in places if place.path.name == DatasetFile.INTERACTIONS}
    datasets = {read_digest(step) for step in steps if step in taught}
    kept = caches.kept_steps()
    return Plan(
        person,
        places,
        [*caches.runs_of(places, steps, home_path), *(step for step in steps if step not in kept)],
        [version for version in registered() if holds(version, person, places, datasets)],
        set().union(*(texts_of(place.path, person) for place in places)),
        sources_of(places),
        other_keys,
    )


def _other_keys(user_id: str, names: Pseudonymizer | None, home_path: Path) -> list[str]:
    """Return the keys of pseudonyms that nobody here can compute; without any key it is an error to look for an id."""
    found = set()
    for path in home_path.glob("cache/steps/ingest/*/manifest.json"):
        with suppress(OSError, ValueError):
            found.add(json.loads(path.read_text("utf-8")).get("privacy", {}).get("pseudonyms"))
    found -= {None, names and names.fingerprint, fingerprint_of(user_id)}
    keys = sorted(map(str, found))
    if keys and names is None and fingerprint_of(user_id) is None:
        raise UsageError(
            "This home knows people by pseudonyms, and there is no key to tell which is theirs.",
            expected=f"{KEY_VARIABLE}, the key {' or '.join(keys)}",
            got="no key",
            fix=f"export {KEY_VARIABLE}=…, or give the pseudonym itself",
        )
    return keys
