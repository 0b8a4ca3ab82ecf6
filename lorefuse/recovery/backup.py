"""A home in one file, and back: the registry with its artifacts, the served versions, studies, choices, reports.

::

    lorefuse-home/…      files as they lie in the home; databases as their own backup gives them
    manifest.json        the last member: format, the home's path, and the sha256 of every file

Nothing has to be stopped. The database of the registry is read before the artifacts that it names, which are written
before it; the served versions are read while nobody may move them. Left out is what can be made again (finished steps
but those that are served, logs, runs), and what must not travel: keys, locks, numbers of processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from lorefuse.client.admin import KEY_FILE
from lorefuse.core.atomic import atomic_file, atomic_folder, sha256_json
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.progress import track
from lorefuse.core.settings import settings
from lorefuse.deploy.deploy import DEPLOYED_FILE
from lorefuse.deploy.supervisor import REPOSITORY
from lorefuse.export.model_repository import ModelRepository

FORMAT = 1
MANIFEST, ROOT = "manifest.json", "lorefuse-home"
DATABASE, SERVE = Path("mlflow/mlflow.db"), "serve"
_NEVER_WRITTEN = ("mlflow/artifacts/", f"{SERVE}/", "cache/steps/")
"""Places of files that are replaced, not written to: the registry knows the very bytes of some."""
_SQLITE_MAGIC = b"SQLite format 3\0"
_LEFT_OUT = ("cache", "runs", "serve/runtime", "serve/triton.json", "serve/stopped", f"serve/{KEY_FILE}")
_LEFT_OUT_SUFFIXES = (".lock", ".partial", ".pid", "-wal", "-shm", "-journal")
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Columns of MLflow's database that hold addresses below the home."""
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        num_files: Files of the home.
        num_bytes: Their size.
        elsewhere: Stores that the settings put on servers, in words: their own tools back them up.
    """

    num_files: int
    num_bytes: int
    elsewhere: list[str]


def back_up(out_path: Path, home_path: Path | None = None) -> Backup:
    """Write a home into one tar file, while it is in use.

    Args:
        out_path: File to make, outside the home; appears whole or not at all, for its owner alone.
        home_path: Default: `LOREFUSE_HOME`.

    Raises:
        UsageError: There is no such home, the file exists, or it would lie in the home.
        ArtifactError: There is no room for it, or a file or database of the home cannot be read.
    """
    home_path = (home_path or settings().home_path).resolve()
    if not home_path.is_dir():
        raise UsageError(f"There is no home {home_path}.", expected="a folder", fix="name one: LOREFUSE_HOME")
    if out_path.exists() or home_path in out_path.resolve().parents:
        raise UsageError(
            f"A backup cannot be written to {out_path}.",
            expected="a path that is free, outside the home",
            got="it exists" if out_path.exists() else f"it lies in {home_path}",
            fix="name another --out",
        )
    try:
        with atomic_file(out_path) as draft_path:
            draft_path.touch(mode=0o600)
            written = _write(draft_path, home_path)
    except (OSError, sqlite3.Error) as error:
        raise ArtifactError(
            f"{home_path} could not be backed up to {out_path}.",
            expected="files that can be read, and room for a copy of them",
            got=str(error),
            fix="free space, or name another --out",
        ) from None
    return Backup(len(written.digests), written.num_bytes, _elsewhere(home_path))


def _write(out_path: Path, home_path: Path) -> _Written:
    with tarfile.open(out_path, "w") as tar:
        written = _Written(tar, home_path)
        written.add_all(_but_served(home_path))
        if (home_path / SERVE).is_dir():
            with ModelRepository(home_path / SERVE / REPOSITORY).lock():  # what is served does not move meanwhile
                written.add_all(_served(home_path))
        written.close()
    return written


def restore(backup_path: Path, home_path: Path | None = None) -> Backup:
    """Make a home of a backup; addresses of the registry and of what is served follow to its new place.

    Args:
        backup_path: From `back_up`.
        home_path: Folder that is missing or empty; default: `LOREFUSE_HOME`. It appears whole or not at all.

    Raises:
        UsageError: There is something at that place already.
        ArtifactError: The file is no backup, cut short or changed.
    """
    home_path = (home_path or settings().home_path).resolve()
    if home_path.exists() and (not home_path.is_dir() or any(home_path.iterdir())):
        raise UsageError(
            f"{home_path} is not empty.", expected="a home that is missing or empty", fix="name another: LOREFUSE_HOME"
        )
    try:
        if home_path.is_dir():
            home_path.rmdir()
        with tarfile.open(backup_path) as tar, atomic_folder(home_path) as draft_path:
            os.chmod(draft_path, 0o700)
            content = _extract(tar, draft_path)
            old_path = Path(content["home_path"])
            _readdress_database(draft_path / DATABASE, old_path, home_path)
            _readdress_text(draft_path / SERVE / DEPLOYED_FILE, old_path, home_path)
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, sqlite3.Error) as error:
        raise ArtifactError(
            f"{backup_path} cannot be restored.",
            expected="a whole file of lorefuse backup",
            got=str(error) or type(error).__name__,
            fix="take another backup",
        ) from None
    num_bytes = sum(path.stat().st_size for path in home_path.rglob("*") if path.is_file())
    return Backup(len(content["sha256"]), num_bytes, _elsewhere(home_path))


def _but_served(home_path: Path) -> list[str]:
    """Return names of files but those of servers; the registry's database first, as it names what was there before."""
    first = [str(DATABASE)] if (home_path / DATABASE).is_file() else []
    return first + [name for name in _names_below(home_path, {home_path / SERVE}) if name != str(DATABASE)]


def _served(home_path: Path) -> list[str]:
    """Return names of the files of servers, and of the finished steps that the deployed version came from."""
    names = _names_below(home_path / SERVE, set(), home_path)
    try:
        content = json.loads((home_path / SERVE / DEPLOYED_FILE).read_text("utf-8"))
        paths = {Path(content["bundle_path"]), Path(content["store_path"])}
    except (OSError, ValueError, KeyError, TypeError):
        return names
    steps = sorted(path for path in paths if path.is_dir() and home_path / "cache" in path.parents)
    return names + [name for path in steps for name in _names_below(path, set(), home_path)]


def _names_below(path: Path, without: set[Path], home_path: Path | None = None) -> list[str]:
    """Return the names in the home of files below a folder, and of empty folders; links are left out too."""
    home_path = home_path or path
    left_out = without | {home_path / name for name in _LEFT_OUT if not path.is_relative_to(home_path / name)}
    found = []
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if Path(folder, name) not in left_out and not _is_left_out(name))
        paths = (Path(folder, file) for file in sorted(files) if not _is_left_out(file))
        found += [str(one.relative_to(home_path)) for one in paths if one not in left_out and not one.is_symlink()]
        if not folders and not files:  # Triton takes an empty folder for a version
            found.append(f"{Path(folder).relative_to(home_path)}/")
    return found


def _is_left_out(name: str) -> bool:
    return name.endswith(_LEFT_OUT_SUFFIXES) or name.startswith("triton.log")


class _Written:
    """Files in a tar file, with their digests."""

    def __init__(self, tar: tarfile.TarFile, home_path: Path) -> None:
        self.tar, self.home_path = tar, home_path
        self.digests: dict[str, str] = {}
        self.num_bytes = 0

    def add_all(self, names: Sequence[str]) -> None:
        """Add files as they are now; those that have gone since their folder was read are none."""
        for name in track(names, "Backing up"):
            if name.endswith("/"):
                self._add(name, tarfile.DIRTYPE, 0o755, 0, None)
                continue
            with contextlib.suppress(FileNotFoundError), self._opened(name) as stream:
                facts = os.fstat(stream.fileno())  # a file that grows meanwhile ends where it ended
                self._add(name, tarfile.REGTYPE, facts.st_mode & 0o777, facts.st_size, stream)

    def close(self) -> None:
        """Add the manifest."""
        content = {"format": FORMAT, "home_path": str(self.home_path), "sha256": self.digests}
        text = json.dumps({**content, "digest": sha256_json(content)}).encode()
        entry = tarfile.TarInfo(MANIFEST)
        entry.size, entry.mode = len(text), 0o600
        self.tar.addfile(entry, io.BytesIO(text))

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file, or a copy of a database that somebody may be writing to."""
        path = self.home_path / name
        with path.open("rb") as stream:
            is_database = stream.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
            stream.seek(0)
            if not is_database or name.startswith(_NEVER_WRITTEN):
                yield stream
                return
        with tempfile.TemporaryDirectory() as temporary:
            copy_path = Path(temporary) / "copy.db"
            uri = f"file:{quote(str(path))}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as source, closing(sqlite3.connect(copy_path)) as copy:
                source.backup(copy)
            with copy_path.open("rb") as stream:
                yield stream

    def _add(self, name: str, kind: bytes, mode: int, size_bytes: int, stream: IO[bytes] | None) -> None:
        entry = tarfile.TarInfo(f"{ROOT}/{name}")
        entry.type, entry.mode, entry.size = kind, mode, size_bytes
        reader = _Hashing(stream or io.BytesIO())
        self.tar.addfile(entry, reader)
        self.digests[name] = reader.sha256.hexdigest()
        self.num_bytes += size_bytes


class _Hashing:
    """Hashes what is read of a stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.sha256 = stream, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(size)
        self.sha256.update(block)
        return block


def _extract(tar: tarfile.TarFile, out_path: Path) -> dict[str, Any]:
    """Unpack all files and hold them to the manifest, which is returned."""
    digests: dict[str, str] = {}
    content: dict[str, Any] = {}
    for entry in track(iter(tar), "Restoring"):
        if content or not (entry.isreg() or entry.isdir()):
            raise ValueError(f"{entry.name} does not belong into a backup")
        stream = tar.extractfile(entry) or io.BytesIO()
        if entry.name == MANIFEST:
            content = json.loads(stream.read())
            continue
        root, _, name = entry.name.partition("/")
        path = (out_path / name).resolve()
        if root != ROOT or out_path.resolve() not in path.parents:
            raise ValueError(f"{entry.name} leads out of the home")
        (path if entry.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
        reader = _Hashing(stream)
        if entry.isreg():
            with path.open("wb") as target:
                while block := reader.read(_BLOCK_BYTES):
                    target.write(block)
        os.chmod(path, entry.mode & 0o777)
        digests[f"{name}/" if entry.isdir() else name] = reader.sha256.hexdigest()
    given = content.pop("digest", None)
    if not content or given != sha256_json(content) or content["format"] != FORMAT:
        raise ValueError(f"it has no {MANIFEST} of format {FORMAT}: cut short, or not a backup")
    changed = sorted(set(digests.items()) ^ set(content["sha256"].items()))
    if changed:
        raise ValueError(f"{changed[0][0]} is not what was backed up")
    return content


def _readdress_database(path: Path, old_path: Path, new_path: Path) -> None:
    if not path.is_file() or old_path == new_path:
        return
    with closing(sqlite3.connect(path)) as database, database:
        for table, column in _PLACES:
            for old, new in ((old_path.as_uri(), new_path.as_uri()), (str(old_path), str(new_path))):
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608  (names of ours)
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


def _readdress_text(path: Path, old_path: Path, new_path: Path) -> None:
    if path.is_file():
        content = json.loads(path.read_text("utf-8"))
        moved = {
            name: str(new_path / Path(value).relative_to(old_path))
            if isinstance(value, str) and Path(value).is_relative_to(old_path)
            else value
            for name, value in content.items()
        }
        path.write_text(json.dumps(moved), "utf-8")


def _elsewhere(home_path: Path) -> list[str]:
    """Name what the settings keep on servers."""
    known = settings()
    stores = {
        "the registry (MLFLOW_TRACKING_URI)": bool(known.tracking_uri)
        and not known.tracking_uri.startswith(f"sqlite:///{home_path}"),
        "MLflow's artifacts (LOREFUSE_ARTIFACTS_URI)": bool(known.artifacts_uri),
        "Feast's registry (LOREFUSE_FEAST_REGISTRY_URL)": bool(known.feast_registry_url),
        "online features (LOREFUSE_ONLINE_STORE_URL)": bool(known.online_store_url),
        "running studies (LOREFUSE_TUNING_STORAGE_URL)": bool(known.tuning_storage_url),
    }
    return [name for name, is_elsewhere in stores.items() if is_elsewhere]
