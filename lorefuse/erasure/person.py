"""One person as files know them: the id, its pseudonym, and the forms in which both stand in texts and stores."""

from __future__ import annotations

import functools
import hashlib
import html
import json
import re
import struct
import urllib.parse
from dataclasses import dataclass

from lorefuse.core.errors import UsageError
from lorefuse.privacy.pseudonyms import Pseudonymizer, fingerprint_of

MIN_TOKEN = 6
"""Shortest id that is looked for in texts: a shorter one also means other things there, such as a figure."""
_STRING_TYPE = 2  # feast.types.ValueType.STRING


@dataclass(frozen=True)
class Person:
    """Whom a search is for.

    Attributes:
        names: The id, and its pseudonym where there is a key.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, user_id: str, pseudonyms: Pseudonymizer | None) -> Person:
        """Return the person of an id or pseudonym.

        Raises:
            UsageError: The id is empty, or a pseudonym of another key.
        """
        text = user_id.strip()
        if not text:
            raise UsageError("The user id is empty.", expected="an id of your data, or a pseudonym")
        return cls(tuple(dict.fromkeys([text, *([pseudonyms.of(text)] if pseudonyms else [])])))

    @property
    def token(self) -> re.Pattern[bytes] | None:
        """What finds the person in texts, as raw bytes; None where no name is long enough to mean nobody else."""
        return _token(self.names)

    @property
    def shadow_names(self) -> set[str]:
        """Names in logs of shadow deployments, which hold the first 16 digits of a sha256."""
        return {hashlib.sha256(name.encode()).hexdigest()[:16] for name in self.names}

    @property
    def entity_keys(self) -> list[bytes]:
        """Keys in Feast's online stores (serialization version 3): count, then type, length and bytes of each part."""
        head = struct.pack("<III", 1, _STRING_TYPE, len(b"user_id")) + b"user_id"
        names = [name.encode() for name in self.names]
        return [head + struct.pack("<II", _STRING_TYPE, len(name)) + name for name in names]

    @property
    def is_searched_in_texts(self) -> bool:
        """Whether every name is long enough to be looked for in texts."""
        return all(map(_is_distinctive, self.names))


def _is_distinctive(name: str) -> bool:
    return len(name) >= MIN_TOKEN or fingerprint_of(name) is not None


@functools.lru_cache(maxsize=64)
def _token(names: tuple[str, ...]) -> re.Pattern[bytes] | None:
    forms: dict[str, None] = {}
    for name in filter(_is_distinctive, names):
        written = (name, json.dumps(name)[1:-1], html.escape(name), urllib.parse.quote(name, safe=""))
        forms |= dict.fromkeys(written)
    if not forms:
        return None
    inside = b"|".join(re.escape(form.encode()) for form in sorted(forms, key=len, reverse=True))
    return re.compile(rb"(?<![A-Za-z0-9_])(?:" + inside + rb")(?![A-Za-z0-9_])")
