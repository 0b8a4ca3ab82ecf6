"""Arrays of a safetensors file as they lie on the disk: pages come in when they are read, and processes share them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def mapped_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name; what is written into one stays with this process.

    Raises:
        OSError: There is no such file.
        SafetensorError: It is not whole.
        KeyError: An array is of a type that none of ours has.
    """
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy"):
        pass  # the library's own checks of header and size
    with path.open("rb") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(start - 8))
    header.pop("__metadata__", None)
    return {name: _mapped(path, start, entry) for name, entry in header.items()}


def _mapped(path: Path, start: int, entry: dict[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    first, end = entry["data_offsets"]
    if first == end:  # nothing can be mapped
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "c", start + first, shape))
