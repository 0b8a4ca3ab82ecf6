"""A shop whose steps the tests of the smaller pipelines share: what one test has built, the next one reuses."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.helpers.shop import write_shop


@pytest.fixture(scope="session")
def shared_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the shop's files in `data/`, and room for a home in `home/`."""
    path = tmp_path_factory.mktemp("shared-shop")
    write_shop(path / "data")
    return path


@pytest.fixture(autouse=True)
def _stack_without_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """kfp asks for the whole stack at every setting of a task, to name a function; below pytest that takes a minute."""
    stack = inspect.stack
    monkeypatch.setattr(inspect, "stack", lambda context=0: stack(0))
