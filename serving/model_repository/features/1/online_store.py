"""Reads Feast's online store without Feast, whose import takes seconds and hundreds of megabytes.

SQLite here, Redis in redis_store.py. SQLite holds one table per view, ``<project>_<view>``, with a row per entity and
feature: ``entity_key`` (Feast's key, serialization version 3), ``feature_name`` and ``value`` (a serialized
``feast.types.Value``). Tests hold every answer of both to the SDK's.
"""

import sqlite3
import struct
from pathlib import Path

import numpy as np

STRING_TYPE = 2  # feast.types.ValueType.STRING
FLOAT, PAIR = struct.Struct("<f"), struct.Struct("<II")
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf wire types
ONE_TEXT = 1 << 3 | BYTES  # tag of StringList.val


class OnlineStoreError(Exception):
    """The store is missing, is not a store, or holds a value of an unknown type."""


class OnlineStoreUnavailableError(OnlineStoreError):
    """The store is a server that does not answer now, or has lost its features; a later try may succeed."""


def open_store(path: str, project: str, views: dict[str, list[str]]):
    """Open what was deployed: a SQLite file or, where `path` is a ``store.json``, Redis at its usual address.

    Raises:
        OnlineStoreError: The file is missing or no store, or nobody said where Redis is.
    """
    if path.endswith(".json"):
        from redis_store import RedisStore  # a deployment on files needs no Redis client

        return RedisStore(project, views)
    return OnlineStore(path, project, views)


class OnlineStore:
    """An online store in SQLite, opened read-only.

    Args:
        path: The SQLite file.
        project: Feast project.
        views: View → names of its features.
    """

    def __init__(self, path: str, project: str, views: dict[str, list[str]]) -> None:
        if not Path(path).is_file():
            raise OnlineStoreError(f"the online store {path} is missing")
        self.views = views
        self.names = [frozenset(names) for names in views.values()]
        self.project = project
        try:
            # Nobody writes to a deployed store: no locks, no looking for a journal.
            self.connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)
            found = {name for (name,) in self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.Error as error:
            raise OnlineStoreError(f"{path} is not an online store: {error}") from None
        missing = sorted(f"{project}_{view}" for view in views if f"{project}_{view}" not in found)
        if missing:
            raise OnlineStoreError(f"the online store {path} lacks the tables {', '.join(missing)}")

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def read(self, key: str, entity_ids: list[str]) -> list[dict[str, object]]:
        """Return the features of some entities; a feature that the store does not have is absent.

        Args:
            key: Join key, e.g. ``user_id``.
            entity_ids: Raw ids.

        Returns:
            One dict per id: feature → str, float, list of str or float32 array.
        """
        if not self.views:
            return [{} for _ in entity_ids]
        keys = entity_keys(key, entity_ids)
        found: dict[bytes, dict[str, object]] = {entity: {} for entity in keys}
        try:
            rows = self.connection.execute(self._query(len(found)), list(found)).fetchall()
        except sqlite3.Error as error:
            raise OnlineStoreError(f"the online store could not be read: {error}") from None
        for view, entity, name, value in rows:
            if name in self.names[view] and (parsed := parse_value(value)) is not None:
                found[entity][name] = parsed
        return [found[entity] for entity in keys]

    def _query(self, num_entities: int) -> str:
        """All views at once; the connection keeps the prepared statements."""
        marks = ", ".join(f"?{number}" for number in range(1, num_entities + 1))
        return " UNION ALL ".join(
            f'SELECT {n}, entity_key, feature_name, value FROM "{self.project}_{view}" WHERE entity_key IN ({marks})'  # noqa: S608 (names are the export's own)
            for n, view in enumerate(self.views)
        )


def entity_key(name: str, value: str) -> bytes:
    """Serialize a key of one string column as Feast does (version 3): count, then type, length and bytes of each."""
    return entity_keys(name, [value])[0]


def entity_keys(name: str, values: list[str]) -> list[bytes]:
    """Serialize several keys of one string column."""
    head = struct.pack("<III", 1, STRING_TYPE, len(name.encode())) + name.encode()
    return [head + PAIR.pack(STRING_TYPE, len(text)) + text for text in map(str.encode, values)]


def parse_value(data: bytes) -> object:
    """Parse a serialized ``feast.types.Value``: str, float, list of str, float32 array; None where it is null.

    Raises:
        OnlineStoreError: The value has another type, or is damaged.
    """
    try:
        known = _common(data)
        return _parse(data) if known is None else known
    except (TypeError, ValueError, AttributeError, IndexError, struct.error) as error:
        raise OnlineStoreError(f"a value is damaged: {error}") from None


def _common(data: bytes) -> object:
    """Parse the shapes that nearly all values have, without a walk over fields; None for any other."""
    size = len(data)
    tag = data[0] if size > 1 else 0
    if tag == 0x35 and size == 5:
        return FLOAT.unpack_from(data, 1)[0]
    if tag == 0x12 and data[1] == size - 2 < 0x80:
        return data[2:].decode()
    if tag == 0x82 and size > 6 and data[1] == 1:
        return _packed_floats(data, size)
    if tag == 0x62:
        return _short_texts(data, size)
    return None


def _packed_floats(data: bytes, size: int):
    """Parse one packed list of floats; None for anything else."""
    length, at = _varint(data, 2)
    if length != size - at or data[at] != 0x0A:
        return None
    length, at = _varint(data, at + 1)
    return np.frombuffer(data, "<f4", offset=at) if length == size - at and not length % 4 else None


def _short_texts(data: bytes, size: int):
    """Parse a list of texts below 128 bytes each; None where it is another."""
    at = 2 if data[1] < 0x80 else 3
    length = data[1] if at == 2 else (data[1] & 0x7F) | data[2] << 7
    if length != size - at or (at == 3 and data[2] > 0x7F):
        return None
    found = []
    while at < size:
        end = at + 2 + data[at + 1] if at + 1 < size else size + 1
        if data[at] != 0x0A or end > size or data[at + 1] > 0x7F:
            return None
        found.append(data[at + 2 : end].decode())
        at = end
    return found


def _parse(data: bytes) -> object:
    result = None
    for number, content in _fields(data):
        if number == 2:
            result = content.decode()
        elif number in (5, 6):
            result = struct.unpack("<d" if number == 5 else "<f", content)[0]
        elif number == 12:
            result = _texts(content)
        elif number == 16:
            result = np.concatenate([np.zeros(0, "<f4"), *(np.frombuffer(part, "<f4") for _, part in _fields(content))])
        elif number != 19:  # null_val
            raise OnlineStoreError(f"a value has the type number {number}; known are texts, floats and lists of them")
    return result


def _texts(data: bytes) -> list[str]:
    """Texts of a list; ids are short, and for them a tag and a length are a byte each."""
    result, place, end = [], 0, len(data)
    while place + 1 < end:
        size = data[place + 1]
        if data[place] != ONE_TEXT or size >= 0x80:
            return [text.decode() for _, text in _fields(data)]
        place += 2 + size
        result.append(data[place - size : place].decode())
    if place != end:
        raise OnlineStoreError("a value is cut short")
    return result


def _fields(data: bytes):
    """Yield (field number, content) of a protobuf message; varints as int, everything else as bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            content, place = _varint(data, place)
            yield number, content
            continue
        if kind == BYTES:
            size, place = _varint(data, place)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise OnlineStoreError(f"a value holds the wire type {kind}")
        if place + size > len(data):
            raise OnlineStoreError("a value is cut short")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    result = shift = 0
    while place < len(data):
        byte = data[place]
        place += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, place
        shift += 7
    raise OnlineStoreError("a value is cut short")
