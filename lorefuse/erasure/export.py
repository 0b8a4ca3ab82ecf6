"""What is held of one person, as one JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lorefuse.core.settings import settings
from lorefuse.erasure.places import run_of
from lorefuse.erasure.plan import plan


def export_user(user_id: str, also: Sequence[Path] = ()) -> dict[str, Any]:
    """Return everything that names a person: rows, features, lines, their place in vocabularies, and model versions.

    A file that stands in several places (a run's copy of a step) is told once, with all its paths.

    Args:
        user_id: As in the raw data, or a pseudonym.
        also: Folders or files outside the home to look through as well.

    Raises:
        UsageError: The id is empty, or a pseudonym of another key.
        UnreachableError: The registry does not answer.
    """
    found, home_path = plan(user_id, also), settings().home_path
    held: dict[Any, dict[str, Any]] = {}
    for place in sorted(found.places, key=lambda place: run_of(place.path, home_path) is not None):
        facts = place.path.stat()
        known = held.get((facts.st_dev, facts.st_ino))
        if known is None:
            rows = place.holder.read(place.path, found.person)
            held[facts.st_dev, facts.st_ino] = {"where": [str(place.path)], "what": place.holder.kind, "held": rows}
        else:
            known["where"].append(str(place.path))
    return {
        "user": user_id,
        "known_as": list(found.person.names),
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "held": list(held.values()),
        "texts": sorted(found.texts),
        "versions": [{k: v for k, v in asdict(one).items() if k in ("model", "number")} for one in found.versions],
        "sources": found.sources,
    }
