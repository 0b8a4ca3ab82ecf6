"""A small world, two bundles of it, and a real Triton; without `.venv-serve` the Triton tests skip and say so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lorefuse.client import Client
from lorefuse.config import DINConfig
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.ports import free_ports
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.models.ranker import Ranker
from tests.helpers.synthetic_bundle import World, make_bundle, make_ranker, make_world

PYTHON_PATH = Path(os.environ.get("LOREFUSE_SERVE_PYTHON", Path(__file__).parents[2] / ".venv-serve/bin/python"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs everything that shares the world and the bundles."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("serving"))
            if "supervisor" in getattr(item, "fixturenames", ()) or "served" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.triton)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def rankers(world: World) -> tuple[Ranker, Ranker]:
    return make_ranker(world, 1), make_ranker(world, 2)


@pytest.fixture(scope="session")
def bundles(world: World, rankers: tuple[Ranker, Ranker]) -> tuple[Path, Path]:
    first, second = (make_bundle(world, ranker, world.path / f"bundle{n}") for n, ranker in enumerate(rankers))
    return first, second


@pytest.fixture(scope="session")
def din_bundle(world: World) -> Path:
    """A version of another family, whose `ranker` and `features` have other tensors."""
    model = DINConfig(embedding_dim=4, hidden_dims=(8,), history_length=6, attention_dim=5)
    serving = world.config.serving.model_copy(update={"max_k": 12})
    config = world.config.model_copy(update={"serving": serving, "model": model})
    return make_bundle(replace(world, config=config), make_ranker(world, 3, model), world.path / "bundle_din")


@pytest.fixture(scope="module")
def new_supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Supervisor]]:
    """Makes supervisors with folders and ports of their own, and ends their servers after the module."""
    if not PYTHON_PATH.exists():
        pytest.skip(f"no serving environment at {PYTHON_PATH}: make setup")
    made: list[Supervisor] = []

    def make() -> Supervisor:
        made.append(Supervisor(tmp_path_factory.mktemp("serve"), free_ports(), PYTHON_PATH, http=True))
        return made[-1]

    yield make
    with ThreadPoolExecutor() as pool:  # a server takes seconds to end
        list(pool.map(Supervisor.stop, made))


@pytest.fixture(scope="module")
def served(new_supervisor: Callable[[], Supervisor], bundles: tuple[Path, Path], world: World) -> Supervisor:
    """A server with version 1 of the first bundle."""
    supervisor = new_supervisor()
    report = deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
    assert report["max_score_difference"] <= 1e-5
    return supervisor


@pytest.fixture
def client(served: Supervisor) -> Iterator[Client]:
    with Client(served.url) as client:
        yield client


@pytest.fixture
def supervisor(new_supervisor: Callable[[], Supervisor]) -> Supervisor:
    return new_supervisor()
