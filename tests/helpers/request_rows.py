"""Requests as arrays, for what asks Triton without the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def text_row(values: Sequence[str]) -> NDArray[Any]:
    """Return the texts of one user, (1, n); no texts are one empty text, which the served models take for padding."""
    return np.array([[value.encode() for value in values] or [b""]], dtype=np.object_)
