"""The locks: whole, exact, held to hashes, and of one mind."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.infra.conftest import PROJECT_PATH

LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "serving/requirements.lock",
    "serving/triton.lock",
    "infra/audit.lock",
)
WITHOUT_HASH = {"torch"}
"""CPU or CUDA is the choice of the machine, and of the index that it asks."""


@cache
def pins(name: str) -> dict[str, tuple[str, int]]:
    """Return version and number of hashes by name of package."""
    text = re.sub(r"^\s*#.*$", "", (PROJECT_PATH / name).read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        pin = re.match(r"([\w.-]+)==([^\s;]+)", line)
        assert pin, line
        found[pin[1]] = pin[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_held_to_hashes(name: str) -> None:
    assert pins(name)
    assert {package for package, (_, num_hashes) in pins(name).items() if not num_hashes} <= WITHOUT_HASH


def test_tests_run_with_the_versions_that_users_get() -> None:
    tested = pins("requirements-dev.lock")
    assert {package: version for package, (version, _) in pins("requirements.lock").items()}.items() <= {
        package: version for package, (version, _) in tested.items()
    }.items()


@pytest.mark.parametrize("path", ["Makefile", "infra/docker/Dockerfile", "infra/docker/serving.Dockerfile"])
def test_every_install_from_a_lock_asks_for_hashes(path: str) -> None:
    commands = re.sub(r"\\\n\s*", "", Path(PROJECT_PATH / path).read_text("utf-8")).splitlines()
    from_locks = [part for line in commands for part in re.split(r"&&|;", line) if re.search(r"-r \S+\.lock", part)]
    assert from_locks
    assert all("--require-hashes" in part or "pip-audit" in part for part in from_locks)
