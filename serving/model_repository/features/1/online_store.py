"""Reads Feast's online store without Feast, whose import takes seconds and hundreds of megabytes.

SQLite here, Redis in redis_store.py. SQLite holds one table per view, ``<project>_<view>``, with a row per entity and
feature: ``entity_key`` (Feast's key, serialization version 3), ``feature_name`` and ``value`` (a serialized
``feast.types.Value``). Tests hold every answer of both to the SDK's.
"""

import struct
import threading
from functools import lru_cache
from pathlib import Path

import apsw
import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

STRING_TYPE = 2  # feast.types.ValueType.STRING
PAIR = struct.Struct("<II")
FLOAT, FLOAT_TAG, FLOATS = struct.Struct("<Bf"), 0x35, np.dtype("<f4")
# Nobody writes to a deployed store: no locks on the file, no looking for a journal. A connection stays in its thread,
# so SQLite's mutexes, which it would take for every row and column, are left out; the standard library keeps them.
PLACE = "file:{path}?mode=ro&immutable=1"
FLAGS = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOMUTEX


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
        self.path = path
        self.tables = [f"{project}_{view}" for view in views]
        self.wanted = [frozenset(names) for names in views.values()]
        self._query_of_one = self._query(1)
        self._of_thread = threading.local()
        try:
            rows = self._connection().execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            found = {name for (name,) in rows}
        except apsw.Error as error:
            raise OnlineStoreError(f"{path} is not an online store: {error}") from None
        missing = sorted(set(self.tables) - found)
        if missing:
            raise OnlineStoreError(f"the online store {path} lacks the tables {', '.join(missing)}")

    def close(self) -> None:
        """Close this thread's connection; those of others close with their threads."""
        self._connection().close()
        del self._of_thread.connection

    def read(self, key: str, entity_ids: list[str]) -> list[dict[str, object]]:
        """Return the features of some entities; a feature that the store does not have is absent.

        Args:
            key: Join key, e.g. ``user_id``.
            entity_ids: Raw ids.

        Returns:
            One dict per id: feature → str, float, list of str or float32 array.
        """
        keys = entity_keys(key, entity_ids)
        found: dict[bytes, dict[str, object]] = {entity: {} for entity in keys}
        try:
            self._read(found)
        except apsw.Error as error:
            raise OnlineStoreError(f"the online store could not be read: {error}") from None
        except TypeError:
            raise OnlineStoreError("a value is damaged: it is NULL, a text or a number") from None
        return [found[entity] for entity in keys]

    def _read(self, found: dict[bytes, dict[str, object]]) -> None:
        """Put the features of all views into `found`, under their entities' keys."""
        wanted, unpack, last = self.wanted, FLOAT.unpack, None
        features: dict[str, object] = {}
        query = self._query_of_one if len(found) == 1 else self._query(len(found))
        for view, entity, name, value in self._connection().execute(query, tuple(found)):
            if entity != last:  # an entity's rows come one after the other
                last, features = entity, found[entity]
            if name not in wanted[view]:
                continue
            if len(value) == 5 and value[0] == FLOAT_TAG:  # most are floats, and a call takes longer than this
                features[name] = unpack(value)[1]
            elif (parsed := parse_value(value)) is not None:
                features[name] = parsed

    def _query(self, num_entities: int) -> str:
        """Return one statement for all views: a statement each takes a third more for a lone entity."""
        marks = ", ".join(f"?{number + 1}" for number in range(num_entities))
        return " UNION ALL ".join(
            f'SELECT {number}, entity_key, feature_name, value FROM "{table}" WHERE entity_key IN ({marks})'  # noqa: S608 (names are the export's own)
            for number, table in enumerate(self.tables)
        )

    def _connection(self) -> apsw.Connection:
        """Return this thread's connection."""
        try:
            return self._of_thread.connection
        except AttributeError:
            self._of_thread.connection = apsw.Connection(PLACE.format(path=self.path), flags=FLAGS)
            return self._of_thread.connection


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
        size = len(data)
        if size == 5 and data[0] == FLOAT_TAG:
            return FLOAT.unpack(data)[1]
        texts, floats, text = _heads(size)
        if data.startswith(texts):
            return TEXTS.FromString(data[len(texts) :]).val[:]
        if data.startswith(floats):
            return np.ndarray((size - len(floats)) // 4, FLOATS, data, len(floats))
        if data.startswith(text):
            return data[len(text) :].decode()
        return _any_value(data)
    except (TypeError, ValueError, IndexError, DecodeError) as error:
        raise OnlineStoreError(f"a value is damaged: {error}") from None


@lru_cache(maxsize=4096)
def _heads(size: int) -> tuple[bytes | tuple[()], bytes | tuple[()], bytes | tuple[()]]:
    """Return what `size` bytes begin with that are a list of texts, a packed list of floats, or a text, and no more.

    () is what nothing begins with: no such value has this size.
    """
    outer = _head(b"\x82\x01", size)
    inner = _head(b"\x0a", size - len(outer))
    whole = outer and inner and (size - len(outer + inner)) % 4 == 0
    return _head(b"\x62", size) or (), outer + inner if whole else (), _head(b"\x12", size) or ()


def _head(tag: bytes, size: int) -> bytes:
    """Return tag and length of a field that takes `size` bytes with them; nothing where no field does."""
    for width in range(1, 6):
        length = size - len(tag) - width
        if length >= 0 and len(head := tag + _varint(length)) == len(tag) + width:
            return head
    return b""


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)


def _any_value(data: bytes) -> object:
    """Parse a value of any shape that the store may hold."""
    value = VALUE.FromString(data)
    kind = value.WhichOneof("val")
    if kind is None and data:
        number = UnknownFieldSet(value)[0].field_number
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
