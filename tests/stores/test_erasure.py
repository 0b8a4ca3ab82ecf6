"""A person is removed from real servers: hashes in Redis, and a version's artifacts in S3."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.stores import redis_client
from lorefuse.erasure.caches import erase_redis
from lorefuse.erasure.person import Person
from lorefuse.erasure.versions import Version, erase_remote, holds
from lorefuse.feature_store.cells import entity_keys
from tests.helpers.store_servers import BUCKET, HOST, S3_KEYS, Server, redis_url

ANNA = Person(("anna*[1]@example.org",))
OTHERS = ("anna*[1]@example.org.uk", "annaX1@example.org", "bob")


def test_redis_loses_the_person_in_every_project_and_nobody_else(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signs that mean something in a pattern of Redis' mean themselves in an id."""
    url = redis_url(redis_server.port, 13)
    monkeypatch.setenv("LOREFUSE_ONLINE_STORE_URL", url)
    keys = entity_keys("user_id", pa.array([*ANNA.names, *OTHERS]))
    assert keys is not None
    with redis_client(url) as client:
        client.flushdb()
        for project in (b"lorefuse_0123", b"lorefuse_4567"):
            for key in keys:
                client.hset(key + project, "field", "value")
        assert erase_redis(ANNA) == 2
        assert client.dbsize() == 2 * len(OTHERS)
        client.flushdb()


@pytest.fixture
def elsewhere(moto: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Version:
    """A version whose bundle and store lie in a bucket."""
    for name, value in {**S3_KEYS, "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{moto.port}"}.items():
        monkeypatch.setenv(name, value)
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    bundle_path, store_path = tmp_path / "bundle", tmp_path / "store"
    bundle_path.mkdir()
    store_path.mkdir()
    write_json(bundle_path / "vocabularies.json", {"user_id": [*ANNA.names, "bob"]})
    write_json(bundle_path / "serving.json", {"reference_users": [{"user_id": ANNA.names[0]}, {"user_id": "bob"}]})
    digests = {file.name: sha256_file(file) for file in bundle_path.iterdir()}
    write_json(bundle_path / "bundle.json", {"sha256": {**digests, "ranker.onnx": "0"}})
    with closing(sqlite3.connect(store_path / "online_store.db")) as connection, connection:
        connection.execute("CREATE TABLE lorefuse_user_stats (entity_key BLOB, feature_name TEXT, value BLOB)")
        for key in (*ANNA.entity_keys, *Person(("bob",)).entity_keys):
            connection.execute("INSERT INTO lorefuse_user_stats VALUES (?, 'user_mean', x'')", (key,))
    version = Version("ranker", "1", "m-1", "run", f"s3://{BUCKET}/erasure/m-1/artifacts", {})
    get_artifact_repository(version.location).log_artifacts(str(bundle_path), "bundle")
    get_artifact_repository(version.location).log_artifacts(str(store_path), "store")
    return version


def test_artifacts_in_a_bucket_are_replaced(elsewhere: Version, tmp_path: Path) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    assert holds(elsewhere, ANNA, [], set())
    replaced = erase_remote(elsewhere, ANNA)
    assert [uri.rpartition("/")[2] for uri in replaced] == [
        "serving.json", "vocabularies.json", "online_store.db", "bundle.json"
    ]  # fmt: skip
    assert not holds(elsewhere, ANNA, [], set())
    assert holds(elsewhere, Person(("bob",)), [], set())
    assert erase_remote(elsewhere, ANNA) == []
    (tmp_path / "again").mkdir()
    path = Path(get_artifact_repository(elsewhere.location).download_artifacts("bundle", str(tmp_path / "again")))
    digests = json.loads((path / "bundle.json").read_text())["sha256"]
    assert digests.pop("ranker.onnx") == "0"
    assert digests == {name: sha256_file(path / name) for name in digests}


def test_a_bundle_that_was_half_replaced_is_finished(elsewhere: Version, tmp_path: Path) -> None:
    """As a kill between two uploads leaves it: names are new, the record is old."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    path = tmp_path / "half" / "vocabularies.json"
    write_json(path, {"user_id": ["\0forgotten 0", "bob"]})
    get_artifact_repository(elsewhere.location).log_artifact(str(path), "bundle")
    assert [uri.rpartition("/")[2] for uri in erase_remote(elsewhere, ANNA)] == [
        "serving.json", "online_store.db", "bundle.json"
    ]  # fmt: skip
    assert erase_remote(elsewhere, ANNA) == []
