"""Reads safetensors files without their package: a length, a JSON header, and the arrays as they lie in memory."""

import json
import os

import numpy as np

DTYPES = {"F32": "<f4", "I64": "<i8", "I32": "<i4"}


def open_tables(path):
    """Return name → array, mapped from the file: what nobody reads is never loaded, and processes share the rest.

    Raises:
        OSError: There is no such file.
        ValueError: It is not whole.
    """
    with open(path, "rb") as stream:
        head = stream.read(8)
        length = int.from_bytes(head, "little")
        if not len(head) == 8 <= 8 + length <= os.path.getsize(path):
            raise ValueError("the file is cut short")
        header = json.loads(stream.read(length))
    result = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        empty = start == end
        # Plain arrays over the map: each step with a memmap itself calls back into Python.
        result[name] = (
            np.zeros(shape, dtype) if empty else np.asarray(np.memmap(path, dtype, "r", 8 + length + start, shape))
        )
    return result
