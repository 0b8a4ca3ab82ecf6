"""Reads safetensors files without their package: a length, a JSON header, and the arrays as they lie in memory."""

import json
import struct

import numpy as np

DTYPES = {"F32": "<f4", "I64": "<i8", "I32": "<i4"}


def open_tables(path):
    """Return name → array, mapped from the file: what nobody reads is never loaded, and processes share the rest."""
    with open(path, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
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
