"""Arrays on the wire to Triton."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.errors import UsageError

_DTYPES = {"int64": "INT64", "int32": "INT32", "float32": "FP32", "bool": "BOOL", "object": "BYTES"}


def to_infer_input(name: str, array: NDArray[Any]) -> Any:
    """Wrap an array for the wire.

    Raises:
        UsageError: Its dtype is none that the served models use.
    """
    import tritonclient.grpc as triton

    dtype = _DTYPES.get(str(array.dtype))
    if dtype is None:
        raise UsageError(
            f"{name} has a dtype that no served model takes.", expected=", ".join(_DTYPES), got=str(array.dtype)
        )
    tensor = triton.InferInput(str(name), list(array.shape), dtype)
    tensor.set_data_from_numpy(np.ascontiguousarray(array))
    return tensor


def text_array(value: str) -> NDArray[Any]:
    """Return one text as Triton takes it: an object array of UTF-8 bytes, (1, 1)."""
    return np.array([[value.encode()]], dtype=np.object_)
