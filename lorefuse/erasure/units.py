"""Files and sealed folders without a person: each changes as a whole, and its own record says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import atomic_folder, sha256_file, write_json
from lorefuse.core.schema import EVENT_TIMESTAMP, LABEL, DatasetFile
from lorefuse.core.step_cache import STEP_FILE
from lorefuse.erasure.person import Person
from lorefuse.erasure.places import Place, is_dataset
from lorefuse.export.bundle import BUNDLE_FILE

NAMES_FILES = ("vocabularies.json", "serving.json")


def erase_unit(unit_path: Path, places: Sequence[Place], person: Person) -> None:
    """Remove a person from a file, or from a sealed folder that appears anew by one rename.

    Args:
        unit_path: `Place.unit_path` of all of `places`.
        places: Those in it that can be changed.
        person: Whom.
    """
    if unit_path.is_file():
        for place in places:
            _erase(place, unit_path, person)
        return
    mode = unit_path.stat().st_mode & 0o777
    with atomic_folder(unit_path) as draft_path:
        shutil.copytree(unit_path, draft_path, copy_function=_link, dirs_exist_ok=True)
        for place in places:
            _erase(place, draft_path / place.path.relative_to(unit_path), person)
        reseal(draft_path)
        draft_path.chmod(mode)


def reseal(folder_path: Path) -> bool:
    """Let the record of a bundle or a dataset say what its files are now; return whether it changed.

    Of a bundle only the files that may name users are written down anew: a graph that has changed stays an error.
    A step's own mark goes: what it promises is no longer there.
    """
    (folder_path / STEP_FILE).unlink(missing_ok=True)
    if (folder_path / BUNDLE_FILE).is_file():
        return _reseal_bundle(folder_path)
    return is_dataset(folder_path) and _reseal_dataset(folder_path)


def _reseal_bundle(folder_path: Path) -> bool:
    content = json.loads((folder_path / BUNDLE_FILE).read_text("utf-8"))
    digests = dict(content["sha256"])
    for name in NAMES_FILES:
        if name in digests:
            digests[name] = sha256_file(folder_path / name)
    if digests == content["sha256"]:
        return False
    write_json(folder_path / BUNDLE_FILE, {**content, "sha256": digests})
    return True


def _reseal_dataset(folder_path: Path) -> bool:
    import pandas as pd
    import pyarrow.parquet as pq

    path = folder_path / DatasetFile.MANIFEST
    content = json.loads(path.read_text("utf-8"))
    digests = {name: sha256_file(folder_path / name) for name in content["sha256"]}
    if digests == content["sha256"]:
        return False
    events = pd.read_parquet(folder_path / DatasetFile.INTERACTIONS, columns=[EVENT_TIMESTAMP, LABEL])
    times = events[EVENT_TIMESTAMP]
    facts: dict[str, Any] = {
        "sha256": digests,
        "counts": {name: pq.read_metadata(folder_path / f"{name}.parquet").num_rows for name in content["counts"]},
    }
    if len(events):
        facts["label_mean"] = round(float(events[LABEL].mean()), 6)
        facts["cutoffs"] = {"first": times.min().isoformat(), "last": times.max().isoformat()}
    write_json(path, {**content, **facts})
    return True


def by_unit(places: Iterable[Place]) -> dict[Path, list[Place]]:
    """Return the places that can be changed, by what has to change as a whole."""
    units: dict[Path, list[Place]] = {}
    for place in places:
        if place.holder.erase is not None:
            units.setdefault(place.unit_path, []).append(place)
    return units


def _erase(place: Place, path: Path, person: Person) -> None:
    if place.holder.erase is not None:
        place.holder.erase(path, person)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
