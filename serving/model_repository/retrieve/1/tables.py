"""Reads safetensors files without their package: a length, a JSON header, and the arrays as they lie in memory."""

import json
import os

import numpy as np

PAGE_BYTES = 4096
DTYPES = {"F32": "<f4", "I64": "<i8", "I32": "<i4"}


def open_tables(path):
    """Return name → array, mapped from the file, so that processes share it.

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
        result[name] = (
            np.zeros(shape, dtype) if empty else plain(np.memmap(path, dtype, "r", 8 + length + start, shape))
        )
    return result


def plain(table):
    """Return an array over a map, each page of it looked at once.

    The first look at a page costs as much as scoring the item that lies there, and requests look at hundreds in no
    order. A plain array, since each step with numpy's own kind for maps calls back into Python.
    """
    array = np.asarray(table)
    array.reshape(-1).view(np.uint8)[::PAGE_BYTES].max(initial=0)
    return array
