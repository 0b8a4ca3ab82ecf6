"""A cache of vectors addressed by content: what has been encoded once, with the same everything, never is again.

One SQLite file in WAL mode: safe with several processes, and a crash loses at most the batch being written. Each
vector carries a checksum; a damaged one counts as missing.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorefuse.errors import ArtifactError

_BATCH = 500


class EmbeddingCache:
    """Vectors on disk.

    Args:
        path: The SQLite file; made on first use.
        space: Identifies everything but the text: encoder, revision, prompt, pooling, lengths, dtype.
        dim: Width of a vector.
    """

    def __init__(self, path: Path, space: str, dim: int) -> None:
        self.path, self.space, self.dim = path, space, dim
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (address BLOB PRIMARY KEY, checksum INTEGER, vector BLOB) "
                "WITHOUT ROWID"
            )

    def address(self, text: str) -> bytes:
        """Return the 32-byte sha256 that addresses a text's vector."""
        return hashlib.sha256(f"{self.space}\0{text}".encode()).digest()

    def get(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return vectors (n, dim) and a mask of those found; the others are zeros."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        found = np.zeros(len(texts), dtype=bool)
        addresses = [self.address(text) for text in texts]
        rows_of: dict[bytes, list[int]] = {}
        for row, address in enumerate(addresses):
            rows_of.setdefault(address, []).append(row)
        unique = list(rows_of)
        with closing(self._connect()) as connection:
            for start in range(0, len(unique), _BATCH):
                part = unique[start : start + _BATCH]
                marks = ",".join("?" * len(part))
                query = f"SELECT address, checksum, vector FROM vectors WHERE address IN ({marks})"  # noqa: S608
                for address, checksum, blob in connection.execute(query, part):
                    if len(blob) == 4 * self.dim and zlib.crc32(blob) == checksum:
                        rows = rows_of[address]
                        vectors[rows], found[rows] = np.frombuffer(blob, dtype=np.float32), True
        return vectors, found

    def put(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Store vectors (n, dim) of texts in one transaction."""
        rows = []
        for text, vector in zip(texts, vectors, strict=True):
            blob = np.ascontiguousarray(vector, dtype=np.float32).tobytes()
            rows.append((self.address(text), zlib.crc32(blob), blob))
        with closing(self._connect()) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, timeout=30)
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"The embedding cache {self.path} cannot be opened.", got=str(error), fix=f"remove {self.path}"
            ) from None
        return connection
