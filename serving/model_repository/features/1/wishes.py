"""What a request asks for, held to bounds: nothing unchecked goes further than this file.

Every text input is (B, width); an empty text is padding, so that users with lists of different lengths share a batch.
"""

import numpy as np
import triton_python_backend_utils as pb_utils

DEFAULT_K = 10
MAX_TEXT_BYTES = 1024
"""Longest id, filter or context entry."""
MAX_CANDIDATES, MAX_FILTERS, MAX_CONTEXT = 10_000, 64, 64
"""Most columns of `candidates`, `filters` and `context`."""


class RequestError(Exception):
    """Something the caller can mend, in one line."""


class Inputs:
    """A request for `pb_utils.get_input_tensor_by_name`, which wraps all tensors anew at each call.

    Args:
        request: From Triton.
    """

    def __init__(self, request):
        self._tensors = request.inputs()

    def inputs(self):
        """Return the tensors."""
        return self._tensors


class Wishes:
    """A checked request of B users.

    Args:
        request: From Triton, which has checked names, dtypes and ranks against the config.
        max_k: Most items a request may ask for.

    Attributes:
        user_ids: B texts, none empty.
        k: int32 (B,).
        exclude_seen: bool (B,).
        candidates: B lists of item ids without padding; None where every item may be returned.
        filters: B lists of ``column=value`` or ``column!=value``.
        context: B dicts of column → value.
    """

    def __init__(self, request, max_k):
        self.user_ids = [row[0] for row in texts(request, "user_id", 1)]
        num_users = len(self.user_ids)
        if not all(self.user_ids):
            raise RequestError("user_id is empty")
        self.k = self._k(request, max_k, num_users)
        exclude = pb_utils.get_input_tensor_by_name(request, "exclude_seen")
        self.exclude_seen = np.ones(num_users, bool) if exclude is None else exclude.as_numpy().reshape(-1)
        self.candidates = _padded(request, "candidates", MAX_CANDIDATES, num_users, None)
        self.filters = _padded(request, "filters", MAX_FILTERS, num_users, [])
        self.context = [
            dict(split(entry, "context") for entry in entries)
            for entries in _padded(request, "context", MAX_CONTEXT, num_users, [])
        ]

    @staticmethod
    def _k(request, max_k, num_users):
        tensor = pb_utils.get_input_tensor_by_name(request, "k")
        if tensor is None:
            return np.full(num_users, min(DEFAULT_K, max_k), np.int32)
        k = tensor.as_numpy().reshape(-1)
        bad = k[(k < 1) | (k > max_k)]
        if len(bad):
            raise RequestError(f"k must lie between 1 and {max_k}; got {bad[0]}")
        return k.astype(np.int32)


def split(entry, name):
    """Split ``column=value`` at its first equals sign."""
    column, sign, value = entry.partition("=")
    if not sign or not column:
        raise RequestError(f"{name} must read column=value; got {shown(entry)}")
    return column, value


def shown(text):
    """Return a text for a message: quoted, escaped and cut, so that no caller's text breaks a line."""
    return ascii(text[:60])


def texts(request, name, max_width):
    """Return a text input as B lists of str; None where the request leaves it out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    array = tensor.as_numpy()
    if array.shape[1] > max_width:
        raise RequestError(f"{name} has {array.shape[1]:,} columns; at most {max_width:,} are allowed")
    return [[_decoded(value, name) for value in row] for row in array]


def _decoded(value, name):
    if len(value) > MAX_TEXT_BYTES:
        raise RequestError(f"{name} holds a text of {len(value):,} bytes; at most {MAX_TEXT_BYTES:,} are allowed")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError(f"{name} is not UTF-8 text") from None


def _padded(request, name, max_width, num_users, absent):
    rows = texts(request, name, max_width)
    return [absent] * num_users if rows is None else [[entry for entry in row if entry] for row in rows]
