"""Arrays on the wire to Triton."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lorefuse.core.errors import UsageError

_DTYPES = {"int64": "INT64", "int32": "INT32", "float32": "FP32", "bool": "BOOL", "object": "BYTES"}
_NUMPY_DTYPES = {triton: np.dtype(name) for name, triton in _DTYPES.items()}
_TRITON_DTYPES = {dtype: triton for triton, dtype in _NUMPY_DTYPES.items()}
_LENGTH = struct.Struct("<I")


def triton_dtype(name: str, dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype on the wire, e.g. ``INT64``.

    Raises:
        UsageError: It is none that the served models use; `name` says whose it is.
    """
    known = _TRITON_DTYPES.get(dtype)
    if known is None:
        raise UsageError(f"{name} has a dtype that no served model takes.", expected=", ".join(_DTYPES), got=str(dtype))
    return known


def to_infer_input(name: str, array: NDArray[Any]) -> Any:
    """Wrap an array for the wire.

    Raises:
        UsageError: Its dtype is none that the served models use.
    """
    import tritonclient.grpc as triton

    tensor = triton.InferInput(str(name), list(array.shape), triton_dtype(name, array.dtype))
    tensor.set_data_from_numpy(np.ascontiguousarray(array))
    return tensor


class Content(NamedTuple):
    """A tensor as it travels.

    Attributes:
        datatype: Triton's name of its dtype, e.g. ``INT64``.
        shape: Its shape.
        data: Its numbers; of texts each behind its length.
    """

    datatype: str
    shape: tuple[int, ...]
    data: bytes


def content_of(name: str, array: NDArray[Any]) -> Content:
    """Return an array as it travels: numbers, or texts, which are bytes in an object array.

    Raises:
        UsageError: Its dtype is none that the served models use; `name` says whose it is.
    """
    datatype = triton_dtype(name, array.dtype)
    return Content(datatype, array.shape, array.tobytes() if datatype != "BYTES" else _joined(array.flat))


def content_of_texts(values: Sequence[str]) -> Content:
    """Return the texts of one user, (1, n); no texts are one empty text, which the served models take for padding.

    It makes no array, which for a text or two costs more than all the rest.
    """
    texts = [value.encode() for value in values] or [b""]
    return Content("BYTES", (1, len(texts)), _joined(texts))


def _joined(texts: Iterable[bytes]) -> bytes:
    return b"".join([part for text in texts for part in (_LENGTH.pack(len(text)), text)])


def from_bytes(data: bytes, datatype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Return the array that `content_of` made the content of; texts as an object array of bytes."""
    if datatype != "BYTES":
        return np.frombuffer(data, _NUMPY_DTYPES[datatype]).reshape(shape)
    texts = split_texts(data)
    array = np.empty(len(texts), dtype=np.object_)
    array[:] = texts
    return array.reshape(shape)


def split_texts(data: bytes) -> list[bytes]:
    """Return the texts of a tensor's content, each of which stands behind its length."""
    texts, place, size, length_at = [], 0, len(data), _LENGTH.unpack_from
    while place < size:
        start = place + _LENGTH.size
        place = start + length_at(data, place)[0]
        texts.append(data[start:place])
    return texts


def text_array(value: str) -> NDArray[Any]:
    """Return one text as Triton takes it: an object array of UTF-8 bytes, (1, 1)."""
    return np.array([[value.encode()]], dtype=np.object_)
