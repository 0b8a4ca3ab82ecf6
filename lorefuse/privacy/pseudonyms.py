"""Pseudonyms: what stands in place of a user's id from ingest on.

A pseudonym is ``psn_<fingerprint>_<digest>``: 45 characters, of which the fingerprint names the key and never shows it,
so that ids of two keys are told apart at a glance, and nothing is pseudonymized twice. Any language computes it::

    digest      = lower(base32(HMAC-SHA256(key, "user" + NUL + id)))[:32]     # 160 bits
    fingerprint = hex(HMAC-SHA256(key, "fingerprint"))[:8]

Importing this module pulls in nothing heavy: the client hashes by it too.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable

from lorefuse.core.errors import ConfigError, UsageError
from lorefuse.core.settings import settings

KEY_VARIABLE = "LOREFUSE_PRIVACY_KEY"
MIN_KEY = 32
"""Fewest characters of a key: whoever guesses it can try out all phone numbers there are."""
_PATTERN = re.compile(r"psn_([0-9a-f]{8})_[a-z2-7]{32}")
_FIX = f"export {KEY_VARIABLE}=$(openssl rand -hex 32), and keep it: without it nobody finds a person's rows again"


class Pseudonymizer:
    """Turns ids into pseudonyms under one key.

    Args:
        key: The secret, 32 characters or more; it is never printed or written.

    Attributes:
        fingerprint: Eight hexadecimal digits that name the key.

    Raises:
        ConfigError: The key is too short.

    Example:
        >>> names = Pseudonymizer("an example of a key, not a secret")
        >>> names.of("anna@example.org")
        'psn_cdbbe0fa_atlqzf6nycibxwze2zusaanetk5znkb2'
        >>> names.of(names.of("anna@example.org")) == names.of("anna@example.org")
        True
    """

    def __init__(self, key: str) -> None:
        if len(key) < MIN_KEY:
            raise ConfigError(
                "The key of the pseudonyms is too short.",
                expected=f"{MIN_KEY} characters or more",
                got=f"{len(key)} characters",
                fix=_FIX,
            )
        self._key = key.encode()
        self.fingerprint = self._mac("fingerprint").hex()[:8]

    def of(self, user_id: str) -> str:
        """Return the pseudonym of an id; a pseudonym of this very key stays as it is.

        Raises:
            UsageError: It is a pseudonym of another key.
        """
        found = fingerprint_of(user_id)
        if found is None:
            digest = base64.b32encode(self._mac(f"user\0{user_id}")).decode("ascii").lower()
            return f"psn_{self.fingerprint}_{digest[:32]}"
        if found != self.fingerprint:
            raise UsageError(
                "A user's id is a pseudonym of another key.",
                expected=f"ids as they are, or pseudonyms of the key {self.fingerprint}",
                got=f"a pseudonym of the key {found}",
                fix=f"set {KEY_VARIABLE} to that key (docs/privacy.md says how to change keys)",
            )
        return user_id

    def each(self, user_ids: Iterable[str | None]) -> list[str | None]:
        """Return the pseudonyms of ids; None stays None."""
        return [None if one is None else self.of(one) for one in user_ids]

    def sign(self, text: str) -> str:
        """Return the HMAC-SHA256 of a text under the key, hex."""
        return self._mac(f"receipt\0{text}").hex()

    def _mac(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")


def fingerprint_of(user_id: str) -> str | None:
    """Return the fingerprint of the key that an id is a pseudonym of; None where it is none."""
    found = _PATTERN.fullmatch(user_id)
    return None if found is None else found[1]


def from_environment() -> Pseudonymizer | None:
    """Return the pseudonymizer of the environment's key; None where there is no key.

    Raises:
        ConfigError: The key is too short.
    """
    key = settings().privacy_key
    return Pseudonymizer(key) if key else None


def required() -> Pseudonymizer:
    """Return the pseudonymizer of the environment's key.

    Raises:
        ConfigError: There is no key, or it is too short.
    """
    found = from_environment()
    if found is None:
        raise ConfigError(
            "The configuration asks for pseudonyms (privacy.pseudonyms), and there is no key for them.",
            expected=f"the environment variable {KEY_VARIABLE}, {MIN_KEY} characters or more",
            got="none",
            fix=_FIX,
        )
    return found
