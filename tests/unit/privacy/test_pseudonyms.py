"""Pseudonyms: the same for the same key, never twice, and told apart where keys differ."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.client.answers import names_of, recommend_inputs
from lorefuse.core.errors import ConfigError, UsageError
from lorefuse.core.settings import settings
from lorefuse.privacy.pseudonyms import KEY_VARIABLE, Pseudonymizer, fingerprint_of, required
from tests.unit.privacy.conftest import KEY, OTHER_KEY


def test_a_pseudonym_is_the_documented_hmac() -> None:
    """What docs/privacy.md says to callers in other languages, computed by hand."""
    names = Pseudonymizer(KEY)
    digest = hmac.new(KEY.encode(), b"user\0anna@example.org", hashlib.sha256).digest()
    mark = hmac.new(KEY.encode(), b"fingerprint", hashlib.sha256).hexdigest()[:8]
    assert names.of("anna@example.org") == f"psn_{mark}_{base64.b32encode(digest).decode().lower()[:32]}"


@given(st.text(min_size=1), st.text(min_size=1))
def test_ids_differ_as_their_pseudonyms_do(one: str, other: str) -> None:
    names = Pseudonymizer(KEY)
    assert (names.of(one) == names.of(other)) == (one == other)
    assert len(names.of(one)) == 45
    assert names.of(names.of(one)) == names.of(one)
    assert fingerprint_of(names.of(one)) == names.fingerprint


def test_another_key_gives_other_names_and_refuses_those_of_the_first() -> None:
    ours, theirs = Pseudonymizer(KEY), Pseudonymizer(OTHER_KEY)
    assert ours.of("u1") != theirs.of("u1")
    with pytest.raises(UsageError, match=f"expected: .*{theirs.fingerprint}(.|\n)*got: .*{ours.fingerprint}"):
        theirs.of(ours.of("u1"))


def test_a_short_or_missing_key_is_said_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="got: 6 characters") as error:
        Pseudonymizer("s3cret")
    assert "s3cret" not in str(error.value)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=f"{KEY_VARIABLE}(.|\n)*got: none(.|\n)*fix: export"):
        required()


def test_the_key_is_not_in_what_the_settings_print(names: Pseudonymizer) -> None:
    assert settings().privacy_key == KEY
    assert KEY not in repr(settings())


def test_clients_hash_under_their_own_key_the_environments_or_none(names: Pseudonymizer) -> None:
    def asked(privacy_key: str | None) -> str:
        content = recommend_inputs("u1", 3, True, None, None, None, names=names_of(privacy_key))["user_id"]
        return bytes(content.data)[4:].decode()

    assert asked(None) == names.of("u1")
    assert asked(OTHER_KEY) == Pseudonymizer(OTHER_KEY).of("u1")
    assert asked("") == "u1"


def test_pseudonyms_come_without_anything_heavy() -> None:
    code = "import sys, lorefuse.privacy.pseudonyms; print({'pandas', 'torch', 'numpy'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
