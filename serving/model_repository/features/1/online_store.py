"""Reads Feast's online store without Feast, whose import takes seconds and hundreds of megabytes.

SQLite here, Redis in redis_store.py. SQLite holds one table per view, ``<project>_<view>``, with a row per entity and
feature: ``entity_key`` (Feast's key, serialization version 3), ``feature_name`` and ``value`` (a serialized
``feast.types.Value``). Tests hold every answer of both to the SDK's.
"""

import sqlite3
import struct
from pathlib import Path

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

STRING_TYPE = 2  # feast.types.ValueType.STRING
FLOAT, PAIR = struct.Struct("<f"), struct.Struct("<II")


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
        return _any_value(data) if known is None else known
    except (TypeError, ValueError, IndexError, DecodeError) as error:
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
    length, at = _size(data, 2)
    if length != size - at or data[at] != 0x0A:
        return None
    length, at = _size(data, at + 1)
    return np.frombuffer(data, "<f4", offset=at) if length == size - at and not length % 4 else None


def _size(data: bytes, at: int) -> tuple[int, int]:
    """Return a varint below 2 MiB and where it ends; -1 for a larger one."""
    result = data[at] & 0x7F
    for more in (1, 2):
        if data[at + more - 1] < 0x80:
            return result, at + more
        result |= (data[at + more] & 0x7F) << 7 * more
    return (result, at + 3) if data[at + 2] < 0x80 else (-1, at)


def _short_texts(data: bytes, size: int):
    """Parse a list of texts below 2 MiB in all; None where it is longer, or no list."""
    length, at = _size(data, 1)
    if length != size - at:
        return None
    return TEXTS.FromString(data[at:]).val[:]


def _any_value(data: bytes) -> object:
    """Parse a value of any shape that the store may hold."""
    value = VALUE.FromString(data)
    kind = value.WhichOneof("val")
    if kind is None and data:
        number = _size(data, 0)[0] >> 3
        raise OnlineStoreError(f"a value has the type number {number}; known are texts, floats and lists of them")
    if kind is None or kind == "null":
        return None
    found = getattr(value, kind)
    if kind == "floats":
        return np.array(found.val, "<f4")
    return found.val[:] if kind == "texts" else found


def _message_classes():
    """Return the classes of ``StringList`` and ``Value``: what the store holds of Feast's ``Value.proto``."""
    field, file = FieldDescriptorProto, FileDescriptorProto(name="value.proto", package="online", syntax="proto3")
    for name, kind in (("Texts", field.TYPE_STRING), ("Floats", field.TYPE_FLOAT)):
        file.message_type.add(name=name).field.add(name="val", number=1, type=kind, label=field.LABEL_REPEATED)
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="val")
    for name, number, kind, type_name in (
        ("text", 2, field.TYPE_STRING, None),
        ("double", 5, field.TYPE_DOUBLE, None),
        ("float", 6, field.TYPE_FLOAT, None),
        ("texts", 12, field.TYPE_MESSAGE, ".online.Texts"),
        ("floats", 16, field.TYPE_MESSAGE, ".online.Floats"),
        ("null", 19, field.TYPE_INT32, None),
    ):
        value.field.add(
            name=name, number=number, type=kind, type_name=type_name, label=field.LABEL_OPTIONAL, oneof_index=0
        )
    pool = DescriptorPool()
    pool.Add(file)
    return [GetMessageClass(pool.FindMessageTypeByName(f"online.{name}")) for name in ("Texts", "Value")]


TEXTS, VALUE = _message_classes()
