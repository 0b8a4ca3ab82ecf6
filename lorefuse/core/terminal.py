"""Text of others on a terminal: ids, titles and messages that may hold anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_SEQUENCE = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?")
"""What moves the cursor, changes a colour or names the window (ECMA-48)."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line end, and signs that turn the direction of what follows."""


def plain(text: str) -> str:
    """Return a text without anything that a terminal would act on."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def cell(text: str) -> Text:
    """Return a text for a table of rich's, in one line; brackets in it stand for themselves."""
    from rich.text import Text

    return Text(" ".join(plain(text).split()))
