"""A served model refuses names of a kind that it cannot know, and never repeats them."""

from __future__ import annotations

from types import ModuleType

import pytest

from lorefuse.privacy.pseudonyms import Pseudonymizer
from tests.helpers.module_file import served_module
from tests.unit.privacy.conftest import KEY, OTHER_KEY

OURS, THEIRS = Pseudonymizer(KEY), Pseudonymizer(OTHER_KEY)


@pytest.fixture
def served() -> ModuleType:
    return served_module("features", "names")


def test_a_model_of_pseudonyms_takes_those_of_its_key_alone(served: ModuleType) -> None:
    served.check_names([OURS.of("anna@example.org"), "\0nobody"], OURS.fingerprint)
    for name in ("anna@example.org", THEIRS.of("anna@example.org"), "psn_12"):
        with pytest.raises(Exception, match=OURS.fingerprint) as error:
            served.check_names([OURS.of("u1"), name], OURS.fingerprint)
        assert name not in str(error.value)


def test_a_model_of_ids_refuses_a_pseudonym_that_nobody_has(served: ModuleType) -> None:
    served.check_names(["anna@example.org", OURS.of("u1")], "")
    served.check_strangers(["a stranger", OURS.of("u1")], [{}, {"user_mean": 1.0}], "")
    with pytest.raises(Exception, match="knows users by their own ids"):
        served.check_strangers([OURS.of("u1")], [{}], "")
