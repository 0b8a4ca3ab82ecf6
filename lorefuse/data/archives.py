"""A file that lies in a folder, or in the zip that the publisher made of it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lorefuse.core.errors import DataError


@contextmanager
def open_member(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file of a folder or of a zip, wherever in the zip it lies.

    Raises:
        DataError: It is not there.
    """
    got = "no such path"
    if path.is_dir():
        if (path / name).is_file():
            with (path / name).open("rb") as stream:
                yield stream
            return
        got = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "an empty folder"
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found = next((n for n in archive.namelist() if n.rsplit("/", 1)[-1] == name), None)
            if found is not None:
                with archive.open(found) as stream:
                    yield stream
                return
            got = ", ".join(archive.namelist()[:8])
    elif path.is_file():
        got = "a file that is no zip"
    raise DataError(
        f"{path} holds no {name}.",
        expected=f"a folder or zip with the file {name}",
        got=got,
        fix="correct the path in data.source",
    )
