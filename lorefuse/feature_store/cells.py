"""Columns of Arrow tables as the bytes that Feast's online stores hold, a column at a time.

Feast makes one protobuf object per cell and serializes each. The bytes of the kinds that features mostly have can be
laid out for a whole column at once. They are the same bytes (tests/unit/feature_store/test_bulk_engine.py holds them to
Feast's own writer), so whatever reads an online store reads these: ``feast.types.Value`` is a message with one field,
whose number is its kind; a null is the empty message. https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from feast import ValueType

    Encoder = Callable[[pa.Array], list[bytes]]

NULL = b""
_STRING_KEY, _INT32_KEY, _INT64_KEY = 2, 3, 4
"""Numbers of ``feast.types.ValueType`` inside a serialized key."""


def known_kinds() -> set[ValueType]:
    """Return the kinds of columns that `encode` takes; the others Feast has to write."""
    return set(_encoders())


def encode(column: pa.Array, kind: ValueType) -> list[bytes]:
    """Return a column's values, serialized; the kind is one of `known_kinds`."""
    return _encoders()[kind](column)


def _encoders() -> dict[ValueType, Encoder]:
    from feast import ValueType

    return {
        ValueType.FLOAT: lambda column: _fixed(column, pa.float32(), 0x35),
        ValueType.DOUBLE: lambda column: _fixed(column, pa.float64(), 0x29),
        ValueType.STRING: _strings,
        ValueType.FLOAT_LIST: _float_lists,
        ValueType.STRING_LIST: _string_lists,
    }


def texts(column: pa.Array, kind: ValueType) -> list[str | None]:
    """Return what Feast's SQLite store writes beside a value for search by text; None for lists and nulls."""
    from feast import ValueType

    if kind is ValueType.STRING:
        found: list[str | None] = column.to_pylist()
        return found
    if kind in (ValueType.FLOAT, ValueType.DOUBLE):
        values = column.cast(pa.float32() if kind is ValueType.FLOAT else pa.float64(), safe=False).to_pylist()
        return [None if value is None or value != value else str(value) for value in values]
    return [None] * len(column)


def entity_keys(name: str, column: pa.Array) -> list[bytes] | None:
    """Return Feast's keys of one join column (serialization version 3): count, name, then type, length and value.

    Returns:
        A key per row; None for columns that are neither texts nor 32- or 64-bit integers, or hold nulls.
    """
    head = struct.pack("<III", 1, _STRING_KEY, len(name.encode())) + name.encode()
    if column.null_count:
        return None
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        values = [text.encode() for text in column.to_pylist()]
        return [head + struct.pack("<II", _STRING_KEY, len(value)) + value for value in values]
    if column.type in (pa.int32(), pa.int64()):
        of = _INT32_KEY if column.type == pa.int32() else _INT64_KEY
        width = column.type.bit_width // 8
        head += struct.pack("<II", of, width)
        flat = column.to_numpy().astype(f"<i{width}").tobytes()
        return [head + flat[at : at + width] for at in range(0, len(flat), width)]
    return None


def varint(number: int) -> bytes:
    """Return a number as protobuf writes lengths: seven bits a byte, the lowest first."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _fixed(column: pa.Array, kind: pa.DataType, tag: int) -> list[bytes]:
    """Encode numbers of fixed width: one byte of tag, then the number. NaN is null to Feast."""
    values = column.cast(kind, safe=False).to_numpy(zero_copy_only=False)
    width = kind.bit_width // 8
    rows = np.empty((len(values), 1 + width), np.uint8)
    rows[:, 0] = tag
    rows[:, 1:] = values.astype(f"<f{width}").view(np.uint8).reshape(-1, width)
    flat = rows.tobytes()
    cells = [flat[at : at + 1 + width] for at in range(0, len(flat), 1 + width)]
    for row in np.flatnonzero(np.isnan(values)):
        cells[row] = NULL
    return cells


def _strings(column: pa.Array) -> list[bytes]:
    return [NULL if text is None else _delimited(b"\x12", text.encode()) for text in column.to_pylist()]


def _string_lists(column: pa.Array) -> list[bytes]:
    def encode(values: list[str | None] | None) -> bytes:
        if values is None:
            return NULL
        return _delimited(b"\x62", b"".join(_delimited(b"\x0a", (value or "").encode()) for value in values))

    return [encode(values) for values in column.to_pylist()]


def _float_lists(column: pa.Array) -> list[bytes]:
    """Encode vectors: the list's bytes lie side by side in Arrow already, and lengths repeat."""
    # An element that is missing is NaN to Feast, which reads lists through numpy.
    flat = column.flatten().cast(pa.float32(), safe=False).fill_null(float("nan")).to_numpy().astype("<f4")
    data = flat.tobytes()
    sizes = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(sizes)]) * 4
    heads = {int(size): _float_list_head(int(size)) for size in np.unique(sizes)}
    cells = [heads[(b - a) // 4] + data[a:b] for a, b in pairwise(ends.tolist())]
    for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)):
        cells[row] = NULL
    return cells


def _float_list_head(size: int) -> bytes:
    if size == 0:
        return b"\x82\x01\x00"
    inner = b"\x0a" + varint(size * 4)
    return b"\x82\x01" + varint(len(inner) + size * 4) + inner


def _delimited(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content
