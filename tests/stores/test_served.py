"""A real Triton that reads its features from a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lorefuse.client import Client
from lorefuse.core.errors import ArtifactError, DeployError, UnreachableError
from lorefuse.core.schema import View
from lorefuse.core.settings import settings
from lorefuse.core.stores import redis_client
from lorefuse.deploy.deploy import deploy, status
from lorefuse.deploy.ports import free_ports
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.bundle import Bundle
from lorefuse.feature_store import online
from lorefuse.feature_store.store import apply_and_materialize, ensure_filled, online_features
from tests.helpers.shop import PROJECT_PATH
from tests.helpers.store_servers import Server
from tests.helpers.synthetic_bundle import NUM_USERS, World, make_bundle, make_ranker, make_world

PYTHON_PATH = PROJECT_PATH / ".venv-serve" / "bin" / "python"
USERS = [f"u{n}" for n in range(NUM_USERS)]

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def bundle_path(world: World) -> Path:
    return make_bundle(world, make_ranker(world, 1), world.path / "bundle")


@pytest.fixture(scope="module")
def new_supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Supervisor]]:
    if not PYTHON_PATH.exists():
        pytest.skip(f"no serving environment at {PYTHON_PATH}: make setup")
    made: list[Supervisor] = []

    def make() -> Supervisor:
        made.append(Supervisor(tmp_path_factory.mktemp("serve"), free_ports(), PYTHON_PATH))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.stop()


@pytest.fixture(scope="module")
def on_files(new_supervisor: Callable[[], Supervisor], world: World, bundle_path: Path) -> Client:
    supervisor = new_supervisor()
    deploy(bundle_path, world.store_path, 1, supervisor=supervisor)
    return Client(supervisor.url)


@pytest.fixture
def store_path(production: dict[str, str], world: World) -> Path:
    path = world.path / "servers"
    if path.exists():
        ensure_filled(world.path / "feature_data", path)
    else:
        path.mkdir()
        apply_and_materialize(world.path / "feature_data", path)
    return path


@pytest.fixture(scope="module")
def redis_supervisor(new_supervisor: Callable[[], Supervisor]) -> Supervisor:
    return new_supervisor()


@pytest.fixture
def supervisor(redis_supervisor: Supervisor, store_path: Path, bundle_path: Path) -> Supervisor:
    """Deployed by the first test; the others find the version that answers, and ask it."""
    deploy(bundle_path, store_path, 1, supervisor=redis_supervisor)
    return redis_supervisor


def test_triton_gives_the_bits_of_the_sdk(supervisor: Supervisor, store_path: Path, world: World) -> None:
    client, spec = Client(supervisor.url), world.training_set.spec
    stats = online_features(store_path, View.USER_STATS, spec.user_numeric, USERS)
    interest = online_features(store_path, View.USER_INTEREST, [f.name for f in spec.interest], USERS)
    attributes = online_features(store_path, View.USER_ATTRIBUTES, ["gender"], USERS)
    vocabulary = Bundle.load(world.path / "bundle").read_json("vocabularies.json")
    for row, user in enumerate(USERS):
        tensors = client.user_tensors(user)
        assert tensors["user_numeric"][0].tobytes() == stats.loc[row, list(spec.user_numeric)].to_numpy("f4").tobytes()
        blocks = [np.array(interest.loc[row, facet.name], np.float32) for facet in spec.interest]
        assert tensors["user_interest"][0].tobytes() == np.concatenate(blocks).tobytes()
        gender = vocabulary["gender"].index(attributes.loc[row, "gender"]) + 1
        assert tensors["user_fields"][0].tolist() == [vocabulary["user_id"].index(user) + 1, gender]


def test_answers_are_those_of_the_store_on_files(supervisor: Supervisor, on_files: Client) -> None:
    client = Client(supervisor.url)
    for user in [*USERS, "nobody", "ünïcode 🎬"]:
        assert client.recommend(user, 10) == on_files.recommend(user, 10)


def test_the_features_come_from_redis_alone(supervisor: Supervisor, store_path: Path) -> None:
    folder_path = supervisor.repository.path / "features" / "1"
    facts = json.loads((folder_path / "features.json").read_text())
    assert facts["online_store"] == online.SERVERS_FILE
    assert facts["project"] == online.store_project(store_path) != "lorefuse"
    assert not list(folder_path.glob("*.db"))
    for file in folder_path.glob("*.*"):
        assert b"s3cret" not in file.read_bytes()
    with redis_client(settings().online_store_url) as client:
        before = client.info("commandstats")["cmdstat_hmget"]["calls"]
        Client(supervisor.url).recommend("u1", 5)
        assert client.info("commandstats")["cmdstat_hmget"]["calls"] == before + 1


def test_redis_away_is_unavailable_and_comes_back(supervisor: Supervisor, redis_server: Server, world: World) -> None:
    client = Client(supervisor.url, max_retries=0)
    before = client.recommend("u1", 5)
    redis_server.stop()
    with pytest.raises(UnreachableError, match="online store") as caught:
        client.recommend("u1", 5)
    assert "Traceback" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    said = status(supervisor)
    assert said["running"]
    assert not said["serving"]
    assert "online store" in said["problem"]
    redis_server.start()  # empty: a user's features are not those of a newcomer, they are lost
    time.sleep(1.1)  # after a failure the feature model leaves Redis alone for a second
    with pytest.raises(UnreachableError, match="has no features"):
        client.recommend("u1", 5)
    assert ensure_filled(world.path / "feature_data", world.path / "servers")
    assert client.recommend("u1", 5) == before


def test_a_deployment_without_its_features_is_refused(
    supervisor: Supervisor, redis_server: Server, store_path: Path, bundle_path: Path
) -> None:
    redis_server.stop()
    with pytest.raises(UnreachableError, match="online store cannot be used"):
        deploy(bundle_path, store_path, 2, supervisor=supervisor)
    redis_server.start()
    with pytest.raises(ArtifactError, match="does not hold the features"):
        deploy(bundle_path, store_path, 2, supervisor=supervisor)
    assert not (supervisor.repository.path / "features" / "2").exists()


def test_a_triton_that_was_not_told_of_redis_says_so(
    new_supervisor: Callable[[], Supervisor], store_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = new_supervisor()
    with monkeypatch.context() as patch:
        patch.setenv("LOREFUSE_PROFILE", "local")
        supervisor.start()
    with pytest.raises(DeployError, match="LOREFUSE_ONLINE_STORE_URL is not set"):
        deploy(bundle_path, store_path, 1, supervisor=supervisor)


def test_newcomers_answers_where_that_was_chosen(
    new_supervisor: Callable[[], Supervisor],
    store_path: Path,
    bundle_path: Path,
    redis_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOREFUSE_ONLINE_STORE_DOWN", "newcomer")
    supervisor = new_supervisor()
    deploy(bundle_path, store_path, 1, supervisor=supervisor)
    client = Client(supervisor.url)
    somebody, newcomer = client.user_tensors("u1"), client.user_tensors("nobody")
    assert (somebody["user_numeric"] != newcomer["user_numeric"]).any()
    redis_server.stop()
    now = client.user_tensors("u1")
    for name in ("user_numeric", "user_interest"):
        assert now[name].tobytes() == newcomer[name].tobytes()
    assert now["user_fields"][0, 0] == somebody["user_fields"][0, 0]  # the model still knows the id
    assert len(client.recommend("u1", 5).items) == 5
    assert "answering as for newcomers" in supervisor.log_path.read_text()
