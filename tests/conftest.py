"""Every test has a home of its own and no network but loopback and the package registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.helpers.encoders"]

settings.register_profile("no deadline", deadline=None)  # no test asserts a time: the first call of torch takes its own
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep caches, MLflow and kfp's context out of the developer's own folders."""
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "lorefuse-home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # MLflow writes this variable itself when it is told of a store; an earlier test's must not leak into this one.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
