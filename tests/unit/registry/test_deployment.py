from __future__ import annotations

import pytest

from lorefuse.core.errors import UsageError
from lorefuse.registry.deployment import REQUEST_TAG, STATE_TAG, note_live, request, roll_back
from lorefuse.registry.version import aliases, get_version, promote
from tests.helpers import artifacts
from tests.unit.registry.conftest import Workbench

NAME = artifacts.CONFIG.registry.model_name


def test_back_to_the_version_that_answered_before(workbench: Workbench) -> None:
    first, second = workbench.register("a")["version"], workbench.register("b")["version"]
    promote(NAME, first, "champion")
    note_live(NAME, int(first), None)
    promote(NAME, second, "champion")
    note_live(NAME, int(second), int(first))
    assert get_version(NAME, first).tags[STATE_TAG] == "standby"
    assert get_version(NAME, second).tags[STATE_TAG] == "live"
    assert roll_back(NAME) == (second, first)
    assert aliases(NAME)["champion"] == first
    assert REQUEST_TAG in get_version(NAME, first).tags, "a refusal of it is forgotten"


def test_from_a_version_that_was_refused_back_to_the_one_that_answers(workbench: Workbench) -> None:
    """The third is champion and on trial, the second answers, the first stands by: the second is meant."""
    first, second, third = (workbench.register(name)["version"] for name in "abc")
    note_live(NAME, int(first), None)
    note_live(NAME, int(second), int(first))
    promote(NAME, third, "champion")
    assert roll_back(NAME) == (third, second)


def test_nothing_to_go_back_to_is_said(workbench: Workbench) -> None:
    version = workbench.register("a")["version"]
    with pytest.raises(UsageError, match="no version to go back to"):
        roll_back(NAME)
    promote(NAME, version, "champion")
    with pytest.raises(UsageError, match="champion: 1"):
        roll_back(NAME)


def test_a_version_before_of_another_registry_is_left_out(workbench: Workbench) -> None:
    version = workbench.register("a")["version"]
    note_live(NAME, int(version), 77)
    assert get_version(NAME, version).tags[STATE_TAG] == "live"


def test_a_request_is_another_one_each_time(workbench: Workbench) -> None:
    version = workbench.register("a")["version"]
    request(NAME, version)
    first = get_version(NAME, version).tags[REQUEST_TAG]
    request(NAME, version)
    assert get_version(NAME, version).tags[REQUEST_TAG] != first
