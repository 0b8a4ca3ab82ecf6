"""A cache of vectors addressed by content: what has been encoded once, with the same everything, never is again.

One SQLite file in WAL mode: safe with several processes on one machine, and a crash loses at most the batch being
written. Each vector carries a checksum; a damaged one counts as missing. A file that is damaged as a whole is set
aside and begun anew: everything in it can be encoded again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError

T = TypeVar("T")
_BATCH = 500
_TIMEOUT_S = 60.0
_log = logging.getLogger(__name__)


class EmbeddingCache:
    """Vectors on disk.

    Args:
        path: The SQLite file; made on first use.
        space: Identifies everything but the text: encoder, revision, prompt, pooling, lengths, dtype, dim.
        dim: Width of a vector.

    Raises:
        ArtifactError: The file cannot be opened, read or written (permissions, a full disk, a lock that stays).
    """

    def __init__(self, path: Path, space: str, dim: int) -> None:
        self.path, self.space, self.dim = path, space, dim
        self._prefix = hashlib.sha256(f"{space}\0".encode())

    def address(self, text: str) -> bytes:
        """Return the 32-byte sha256 that addresses a text's vector."""
        digest = self._prefix.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.digest()

    def get(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return vectors (n, dim) and a mask of those found; the others are zeros."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        found = np.zeros(len(texts), dtype=bool)
        rows_of: dict[bytes, list[int]] = {}
        for row, text in enumerate(texts):
            rows_of.setdefault(self.address(text), []).append(row)
        for address, checksum, blob in self._guarded(lambda connection: _select(connection, list(rows_of))):
            if len(blob) == 4 * self.dim and zlib.crc32(blob) == checksum:
                rows = rows_of[address]
                vectors[rows], found[rows] = np.frombuffer(blob, dtype=np.float32), True
        return vectors, found

    def put(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Store vectors (n, dim) of texts in one transaction."""
        self.put_addressed([self.address(text) for text in texts], vectors)

    def put_addressed(self, addresses: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Store vectors (n, dim) of texts known by their addresses, in one transaction."""
        rows = []
        for address, vector in zip(addresses, vectors, strict=True):
            blob = np.ascontiguousarray(vector, dtype=np.float32).tobytes()
            rows.append((address, zlib.crc32(blob), blob))
        self._guarded(lambda connection: _insert(connection, rows))

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some work on a connection; a damaged file is set aside and the work done once more on a new one."""
        try:
            try:
                return self._with_connection(work)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._set_aside(error)
                return self._with_connection(work)
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(
                f"The embedding cache {self.path} cannot be used.",
                expected="a file that can be read and written, and room on its disk",
                got=str(error),
                fix=f"free space, mend its permissions, or remove {self.path}",
            ) from None

    def _with_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (address BLOB PRIMARY KEY, checksum INTEGER, vector BLOB)"
            )
            with connection:
                return work(connection)

    def _set_aside(self, error: sqlite3.Error) -> None:
        _log.warning("The embedding cache %s is damaged (%s); it is set aside and begun anew", self.path, error)
        for suffix in ("", "-wal", "-shm"):
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                os.replace(file, self.path.with_name(f"{self.path.name}.damaged{suffix}"))


def _select(connection: sqlite3.Connection, addresses: list[bytes]) -> list[tuple[bytes, int, bytes]]:
    rows: list[tuple[bytes, int, bytes]] = []
    for start in range(0, len(addresses), _BATCH):
        part = addresses[start : start + _BATCH]
        marks = ",".join("?" * len(part))
        rows += connection.execute(
            f"SELECT address, checksum, vector FROM vectors WHERE address IN ({marks})",  # noqa: S608
            part,
        )
    return rows


def _insert(connection: sqlite3.Connection, rows: Iterable[tuple[bytes, int, bytes]]) -> None:
    connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
