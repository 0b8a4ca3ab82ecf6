"""Rows of a feature view into Feast's Redis store: commands laid out in bulk, a few thousand entities at a time.

A hash per entity, written where the moment that is stored for the view is older, as Feast's `online_write_batch` does.
Redis' client packs every command and looks at every reply in Python. Here a batch of commands is one join of bytes
(https://redis.io/docs/latest/develop/reference/protocol-spec), sent through the client's own connection, and while the
server works on a batch the next one is laid out.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from lorefuse.feature_store.cells import encode, entity_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feast import FeatureView, RepoConfig
    from numpy.typing import NDArray

_ROWS_A_BATCH = 2000


class _Batch(NamedTuple):
    keys: list[bytes]
    moments_us: list[int]
    moments: list[bytes]
    cells: list[list[bytes]]

    def only(self, rows: Sequence[int]) -> _Batch:
        return _Batch(
            [self.keys[row] for row in rows],
            [self.moments_us[row] for row in rows],
            [self.moments[row] for row in rows],
            [[column[row] for row in rows] for column in self.cells],
        )


def into_redis(client: Any, config: RepoConfig, view: FeatureView, table: pa.Table) -> None:
    """Write a table's rows.

    Args:
        client: A client of the redis package that talks to one server.
        config: Of the repository.
        view: With one join key, of a kind that `entity_keys` takes, and features of kinds that `encode` takes.
        table: The view's columns.

    Raises:
        redis.exceptions.RedisError: The server refused a command or does not answer.
    """
    commands = _Commands(view)
    connection = client.connection_pool.get_connection()
    num_unread = 0
    try:
        for start in range(0, table.num_rows, _ROWS_A_BATCH):
            batch = _read_batch(table.slice(start, _ROWS_A_BATCH), view, config.project.encode())
            if not config.online_store.skip_dedup:
                connection.send_packed_command([commands.exists(batch)])
            packed = commands.write(batch)
            _replies(connection, num_unread)
            if not config.online_store.skip_dedup and connection.read_response():
                batch = _newer(connection, commands, batch)
                packed = commands.write(batch)
            connection.send_packed_command([packed])
            num_unread = len(batch.keys)
        _replies(connection, num_unread)
    except BaseException:
        connection.disconnect()  # a reply that nobody has read would answer the next command
        raise
    finally:
        client.connection_pool.release(connection)


def _newer(connection: Any, commands: _Commands, batch: _Batch) -> _Batch:
    """Return the entities whose stored moment is older, or of which none is stored."""
    from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

    connection.send_packed_command([commands.moments(batch)])
    stored = _replies(connection, len(batch.keys))
    known = [0 if data is None else Timestamp.FromString(data).ToMicroseconds() for data in stored]
    return batch.only([row for row, us in enumerate(known) if not us or batch.moments_us[row] > us])


def _replies(connection: Any, count: int) -> list[Any]:
    return [connection.read_response() for _ in range(count)]


def _read_batch(table: pa.Table, view: FeatureView, project: bytes) -> _Batch:
    (join_key,) = view.join_keys
    keys = entity_keys(join_key, table[join_key].combine_chunks())
    times = table[view.batch_source.timestamp_field].combine_chunks()
    moments_us: NDArray[np.int64] = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    columns = ((table[field.name].combine_chunks(), field.dtype.to_value_type()) for field in _fields(view))
    return _Batch(
        [key + project for key in keys or ()],
        moments_us.tolist(),
        _timestamps(moments_us),
        [encode(column, kind) for column, kind in columns],
    )


def _fields(view: FeatureView) -> list[Any]:
    return sorted(view.features, key=lambda field: field.name)


def _timestamps(moments_us: NDArray[np.int64]) -> list[bytes]:
    from google.protobuf.timestamp_pb2 import Timestamp

    distinct, place = np.unique(moments_us, return_inverse=True)
    written = []
    for us in distinct.tolist():
        seconds, rest = divmod(us, 1_000_000)
        written.append(Timestamp(seconds=seconds, nanos=rest * 1000).SerializeToString())
    return [written[at] for at in place.tolist()]


class _Head(dict[int, bytes]):
    """What comes before a string of some length: fixed bytes, and the length as Redis writes it."""

    def __init__(self, fixed: bytes) -> None:
        self._fixed = fixed

    def __missing__(self, size: int) -> bytes:
        self[size] = head = b"%b$%d\r\n" % (self._fixed, size)
        return head

    def of(self, strings: Sequence[bytes]) -> list[bytes]:
        return [self[len(string)] for string in strings]


class _Commands:
    """Commands about a batch of entities, as the bytes that Redis reads."""

    def __init__(self, view: FeatureView) -> None:
        from feast.infra.online_stores.helpers import _mmh3

        moment = _string(f"_ts:{view.name}".encode())
        names = [_string(_mmh3(f"{view.name}:{field.name}")) for field in _fields(view)]
        self._exists = _Head(b"\r\n")
        self._read, self._read_end = _Head(b"*3\r\n$4\r\nHGET\r\n"), b"\r\n" + moment
        self._write = _Head(b"*%d\r\n$4\r\nHSET\r\n" % (4 + 2 * len(names)))
        self._moment, self._cells = _Head(b"\r\n" + moment), [_Head(b"\r\n" + name) for name in names]

    def exists(self, batch: _Batch) -> bytes:
        """One command, answered by the number of entities that are there."""
        start = b"*%d\r\n$6\r\nEXISTS" % (1 + len(batch.keys))
        return start + _interleaved(self._exists.of(batch.keys), batch.keys) + b"\r\n"

    def moments(self, batch: _Batch) -> bytes:
        """A command an entity, answered by the stored moment of the view."""
        ends = list(repeat(self._read_end, len(batch.keys)))
        return _interleaved(self._read.of(batch.keys), batch.keys, ends)

    def write(self, batch: _Batch) -> bytes:
        """A command an entity, answered by a number."""
        parts = [self._write.of(batch.keys), batch.keys, self._moment.of(batch.moments), batch.moments]
        for head, cells in zip(self._cells, batch.cells, strict=True):
            parts += [head.of(cells), cells]
        return _interleaved(*parts, list(repeat(b"\r\n", len(batch.keys))))


def _string(content: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(content), content)


def _interleaved(*columns: list[bytes]) -> bytes:
    """Join the first of each column, then the second of each, and so on."""
    parts = [b""] * (len(columns) * len(columns[0]))
    for number, column in enumerate(columns):
        parts[number :: len(columns)] = column
    return b"".join(parts)
