"""Where a person is: a search through every file below some folders."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lorefuse.core.errors import UsageError
from lorefuse.core.progress import track
from lorefuse.core.step_cache import steps_path
from lorefuse.erasure.holders import RAW, Holder, holder_of
from lorefuse.erasure.person import Person
from lorefuse.export.bundle import BUNDLE_FILE
from lorefuse.export.version_files import FEATURES_FILE

PRIVACY_FOLDER = "privacy"
_SEALS = (BUNDLE_FILE, FEATURES_FILE)
_PEOPLE = ("interactions_path", "users_path", "origin")
"""What a manifest calls the raw files that hold people."""


@dataclass(frozen=True)
class Place:
    """A file that holds a person.

    Attributes:
        path: The file.
        holder: How its format is searched.
        count: Rows, lines or mentions.
    """

    path: Path
    holder: Holder
    count: int

    @property
    def unit_path(self) -> Path:
        """What has to change as a whole: a folder whose own record says what its files are, else the file alone."""
        folder = self.path.parent
        return folder if is_dataset(folder) or any((folder / name).is_file() for name in _SEALS) else self.path


def search(roots: Sequence[Path], person: Person, home_path: Path) -> list[Place]:
    """Return every file that holds a person, in order of paths.

    Args:
        roots: Folders or files.
        person: Whom.
        home_path: The home; its folder of receipts, which hold no names, is left out.

    Raises:
        UsageError: A file cannot be read.
    """
    paths = sorted({path for root in roots for path in _files(root, home_path / PRIVACY_FOLDER)})
    found = []
    for path in track(paths, "Searching", total=len(paths)):
        with suppress(FileNotFoundError):  # a run or a server goes on meanwhile
            if (place := _place(path, person)).count:
                found.append(place)
    return found


def _place(path: Path, person: Person) -> Place:
    """Search one file; one that is not what its name says is searched as bytes."""
    try:
        holder = holder_of(path)
        try:
            return Place(path, holder, holder.count(path, person))
        except (ValueError, LookupError, TypeError, AttributeError, sqlite3.Error):  # pyarrow's errors are such, too
            return Place(path, RAW, RAW.count(path, person))
    except PermissionError as error:
        raise UsageError(
            "A file below the home cannot be read, so nobody can tell whether it holds them.",
            expected="the account that the home belongs to",
            got=str(error),
            fix="run as that account, or mend the file's permissions",
        ) from None


def is_dataset(folder_path: Path) -> bool:
    """Tell whether a folder is a dataset's."""
    path = folder_path / "manifest.json"
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text("utf-8"))
        return isinstance(content, dict) and {"sha256", "counts", "roles"} <= content.keys()
    return False


def step_of(path: Path) -> Path | None:
    """Return the folder of the finished (or half-made) step that a file belongs to; None where it is no step's."""
    root = steps_path()
    return root.joinpath(*path.relative_to(root).parts[:2]) if path.is_relative_to(root) else None


def run_of(path: Path, home_path: Path) -> Path | None:
    """Return the folder of the run, with its log and copies of its steps, that a file belongs to; else None."""
    root = home_path / "runs"
    return root / path.relative_to(root).parts[0] if path.is_relative_to(root) else None


def sources_of(places: Iterable[Place]) -> list[str]:
    """Return the raw files that the datasets among some places were made of: they are their owner's to mend."""
    found: dict[str, None] = {}
    for folder in {place.path.parent for place in places if is_dataset(place.path.parent)}:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        named = [manifest["source"].get(name) for name in _PEOPLE] + manifest["reports"].get("appended_from", [])
        given = [
            str(one) for several in named if several for one in ([several] if isinstance(several, str) else several)
        ]
        found |= dict.fromkeys(one for one in given if not Path(one).is_relative_to(folder))
    return sorted(found)


def _files(root: Path, left_out: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and not path.is_relative_to(left_out):
            yield path
