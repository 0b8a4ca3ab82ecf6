"""Session-wide real servers; where one cannot be had its tests skip and say what installs it."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import store_servers
from tests.helpers.store_servers import Server

INSTALL = "tests/stores/install.sh (as root), or your own packages"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs everything that shares the servers; the markers say what a test needs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("stores"))
            for name, mark in (("redis_server", pytest.mark.redis), ("postgres", pytest.mark.postgres)):
                if name in getattr(item, "fixturenames", ()):
                    item.add_marker(mark)


def _run(name: str, modules: tuple[str, ...], there: bool, start: Callable[[Path], Server]) -> Iterator[Server]:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing or not there:
        pytest.skip(f"no {name}: {'pip install ' + ' '.join(missing) if missing else INSTALL}")
    # Not below pytest's folder, which belongs to its owner alone: PostgreSQL runs as another user.
    folder_path = Path(tempfile.mkdtemp(prefix=f"lorefuse-{name}-"))
    server = None
    try:
        server = start(folder_path)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder_path, ignore_errors=True)


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Server]:
    yield from _run("postgresql", ("psycopg",), store_servers.find_postgres() is not None, store_servers.postgres)


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[Server]:
    yield from _run("redis-server", ("redis",), shutil.which("redis-server") is not None, store_servers.redis_server)


@pytest.fixture(scope="session")
def _moto() -> Iterator[Server]:
    yield from _run("moto", ("moto", "boto3"), True, store_servers.moto_server)


@pytest.fixture
def postgres(_postgres: Server) -> Iterator[Server]:
    """PostgreSQL, running when the test begins, whatever the test before did to it."""
    yield from _running(_postgres)


@pytest.fixture
def redis_server(_redis_server: Server) -> Iterator[Server]:
    """Redis, running when the test begins."""
    yield from _running(_redis_server)


@pytest.fixture
def moto(_moto: Server) -> Iterator[Server]:
    """moto's S3, running when the test begins."""
    yield from _running(_moto)


def _running(server: Server) -> Iterator[Server]:
    if server.process is None:
        server.start()
    yield server


@pytest.fixture
def environment(postgres: Server, redis_server: Server, moto: Server) -> dict[str, str]:
    """What a user of the profile production-local exports."""
    return {
        "LOREFUSE_POSTGRES_URL": store_servers.postgres_url(postgres.port),
        "LOREFUSE_REDIS_URL": store_servers.redis_url(redis_server.port),
        "LOREFUSE_S3_BUCKET": store_servers.BUCKET,
        "MLFLOW_S3_ENDPOINT_URL": f"http://{store_servers.HOST}:{moto.port}",
        **store_servers.S3_KEYS,
    }


@pytest.fixture
def production(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process's settings are those of the profile production-local."""
    for name, value in {**environment, "LOREFUSE_PROFILE": "production-local"}.items():
        monkeypatch.setenv(name, value)
    return environment
