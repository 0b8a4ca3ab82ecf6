"""A shop whose steps the tests of the smaller pipelines share: what one test has built, the next one reuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.shop import write_shop


@pytest.fixture(scope="session")
def shared_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the shop's files in `data/`, and room for a home in `home/`."""
    path = tmp_path_factory.mktemp("shared-shop")
    write_shop(path / "data")
    return path
