"""Keys and values as Feast's online stores hold them, whatever the store, and what may be wrong with one."""

import struct
from functools import lru_cache

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

STRING_TYPE = 2  # feast.types.ValueType.STRING
PAIR = struct.Struct("<II")
FLOAT, FLOAT_TAG, FLOATS = struct.Struct("<Bf"), 0x35, np.dtype("<f4")


class OnlineStoreError(Exception):
    """The store is missing, is not a store, or holds a value of an unknown type."""


class OnlineStoreUnavailableError(OnlineStoreError):
    """The store is a server that does not answer now, or has lost its features; a later try may succeed."""


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
