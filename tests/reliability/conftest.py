"""A small world, a real registry, a real Triton and a reconciler between them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

import pytest

from lorefuse.config import DeploymentConfig
from lorefuse.core.atomic import sha256_file
from lorefuse.core.settings import settings
from lorefuse.deploy.reconcile import Reconciler
from lorefuse.deploy.state import Stage
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.bundle import Bundle
from lorefuse.registry.local_store import create_store
from lorefuse.registry.tracking import connect, ensure_experiment
from lorefuse.registry.version import BUNDLE_TAG, STORE_TAG, create_version, get_version, log_model, promote
from tests.serving.conftest import bundles, din_bundle, new_supervisor, rankers, supervisor, world

__all__ = ["bundles", "din_bundle", "new_supervisor", "rankers", "supervisor", "world"]
NAME = "lorefuse-ranker"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs everything that shares the world and the bundles."""
    for item in items:
        if Path(__file__).parent in item.path.parents and "registry" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("reliability"))
            item.add_marker(pytest.mark.triton)


@dataclass
class Registry:
    """A real MLflow registry in the test's home."""

    store_path: Path
    evaluation_path: Path

    def publish(self, bundle_path: Path, *, store: bool = True) -> str:
        """Register a bundle as a new version, as the register step does, without its gate."""
        client = connect()
        run_id = client.create_run(ensure_experiment(client, "lorefuse")).info.run_id
        store_file = self.store_path / "online_store.db" if store else None
        model_id = log_model(
            client, run_id, bundle_path=bundle_path, evaluation_path=self.evaluation_path, store_file=store_file
        )
        tags = {BUNDLE_TAG: Bundle.load(bundle_path).digest}
        if store_file is not None:
            tags[STORE_TAG] = sha256_file(store_file)
        return create_version(client, NAME, run_id, model_id, tags=tags, description="test")

    def champion(self, version: str) -> None:
        """Move the alias, as a person in the UI does."""
        promote(NAME, version, "champion")

    def tags(self, version: str) -> dict[str, str]:
        """Return what the reconciler wrote to a version."""
        prefix = "lorefuse.deployment."
        entry = get_version(NAME, version)
        return {name.removeprefix(prefix): text for name, text in entry.tags.items() if name.startswith(prefix)}

    def files(self, version: str) -> Path:
        """Return the folder of a version's artifacts."""
        model_id = str(get_version(NAME, version).source).rpartition("/")[2]
        return Path(urlparse(connect().get_logged_model(model_id).artifact_location).path)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make MLflow's tables once: each test gets a copy."""
    folder = tmp_path_factory.mktemp("mlflow")
    create_store(folder / "mlflow.db", folder / "artifacts")
    return folder / "mlflow.db"


@pytest.fixture
def registry(migrated: Path, world: object, tmp_path: Path) -> Registry:
    target_path = settings().home_path / "mlflow" / "mlflow.db"
    target_path.parent.mkdir(parents=True)
    target_path.write_bytes(migrated.read_bytes())
    evaluation_path = tmp_path / "evaluation"
    evaluation_path.mkdir()
    (evaluation_path / "metrics.json").write_text(json.dumps({}))
    return Registry(world.store_path, evaluation_path)  # type: ignore[attr-defined]


@dataclass
class Harness:
    """A reconciler of one server, begun anew as often as a test likes."""

    supervisor: Supervisor
    made: list[Reconciler] = field(default_factory=list)

    def start(self, **changes: object) -> Reconciler:
        """Start a reconciler that looks often."""
        content = {"poll_s": 0.3, "watch_s": 0.3, "max_latency_ratio": 50.0, "latency_slack_ms": 500.0, **changes}
        config = DeploymentConfig.model_validate(content)
        reconciler = Reconciler(config, [self.supervisor], self.supervisor.serve_path)
        reconciler.start()
        self.made.append(reconciler)
        return reconciler

    def close(self) -> None:
        for reconciler in self.made:
            reconciler.close()
        self.made.clear()


@pytest.fixture
def harness(supervisor: Supervisor) -> Iterator[Harness]:
    harness = Harness(supervisor)
    yield harness
    harness.close()
    supervisor.stop()  # a server per test would be too many at a time


def settled(reconciler: Reconciler, version: str, timeout_s: float = 120) -> None:
    """Wait until a version is live everywhere."""
    assert eventually(
        lambda: all(
            s.stage == Stage.LIVE and s.desired == s.actual == int(version) and not s.problem for s in reconciler.states
        ),
        timeout_s,
    ), reconciler.states


def eventually(condition: Callable[[], bool], timeout_s: float = 120) -> bool:
    """Wait for a condition; the limit only keeps a broken test from hanging."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.05)
    return False
