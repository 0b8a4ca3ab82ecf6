"""What a request wants, within bounds: nothing unchecked goes further than this file.

Every text input is (B, width); an empty text is padding, so that users with lists of different lengths share a batch.
"""

DEFAULT_K = 10
MAX_TEXT = 1024
"""Longest id, filter or context entry, in characters."""
MAX_CANDIDATES, MAX_FILTERS, MAX_CONTEXT = 10_000, 64, 64
"""Most columns of `candidates`, `filters` and `context`."""


class RequestError(Exception):
    """Something the caller can mend, in one line."""


def inputs_of(request):
    """Return name → array of the inputs that a request brings: Triton's own look-up wraps all of them at each call."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


class RecommendRequest:
    """A checked request of B users.

    Args:
        inputs: Name → array, as `inputs_of`; Triton has checked names, dtypes and ranks against the config.
        max_k: Most items a request may ask for.

    Attributes:
        user_ids: B texts, none empty.
        k: B numbers.
        exclude_seen: B times True or False.
        candidates: B lists of item ids without padding; None where every item may be returned.
        filters: B lists of ``column=value`` or ``column!=value``.
        context: B dicts of column → value.
    """

    def __init__(self, inputs, max_k):
        # Datasets keep ids without blanks around them.
        self.user_ids = [row[0].strip() for row in texts(inputs, "user_id", 1)]
        num_users = len(self.user_ids)
        if not all(self.user_ids):
            raise RequestError("user_id is empty")
        self.k = self._k(inputs, max_k, num_users)
        exclude = inputs.get("exclude_seen")
        self.exclude_seen = [True] * num_users if exclude is None else exclude[:, 0].tolist()
        self.candidates = _padded(inputs, "candidates", MAX_CANDIDATES, num_users, None)
        self.filters = _padded(inputs, "filters", MAX_FILTERS, num_users, [])
        self.context = [
            dict(split(entry, "context") for entry in entries)
            for entries in _padded(inputs, "context", MAX_CONTEXT, num_users, [])
        ]

    @staticmethod
    def _k(inputs, max_k, num_users):
        k = inputs.get("k")
        if k is None:
            return [min(DEFAULT_K, max_k)] * num_users
        k = k[:, 0].tolist()
        for one in k:
            if not 1 <= one <= max_k:
                raise RequestError(f"k must lie between 1 and {max_k}; got {one}")
        return k


def split(entry, name):
    """Split ``column=value`` at its first equals sign."""
    column, sign, value = entry.partition("=")
    if not sign or not column:
        raise RequestError(f"{name} must read column=value; got {shown(entry)}")
    return column, value


def shown(text):
    """Return a text for a message: quoted, escaped and cut, so that no caller's text breaks a line."""
    return ascii(text[:60])


def texts(inputs, name, max_width):
    """Return a text input as B lists of str; None where the request leaves it out."""
    array = inputs.get(name)
    if array is None:
        return None
    if array.shape[1] > max_width:
        raise RequestError(f"{name} has {array.shape[1]:,} columns; at most {max_width:,} are allowed")
    return [[_decoded(value, name) for value in row] for row in array.tolist()]


def _decoded(value, name):
    try:
        # No character is longer than four bytes: a longer text needs no look at its characters.
        text = value.decode("utf-8") if len(value) <= 4 * MAX_TEXT else None
    except UnicodeDecodeError:
        raise RequestError(f"{name} is not UTF-8 text") from None
    if text is None or len(text) > MAX_TEXT:
        size = f"{len(value):,} bytes" if text is None or len(text) == len(value) else f"{len(text):,} characters"
        raise RequestError(f"{name} holds a text of {size}; at most {MAX_TEXT:,} are allowed")
    return text


def _padded(inputs, name, max_width, num_users, absent):
    rows = texts(inputs, name, max_width)
    return [absent] * num_users if rows is None else [[entry for entry in row if entry] for row in rows]
