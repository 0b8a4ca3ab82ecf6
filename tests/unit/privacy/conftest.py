"""A small shop of one's own files, and a key."""

from __future__ import annotations

import sys

import pytest

from lorefuse.privacy.pseudonyms import KEY_VARIABLE, Pseudonymizer
from tests.unit.data.conftest import shop

__all__ = ["shop"]
KEY, OTHER_KEY = "k" * 32, "another key of the same length.."


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Pseudonymizer:
    """Set the key, and return what it makes of ids."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    return Pseudonymizer(KEY)


def missing_presidio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Presidio a package that is not installed."""
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
