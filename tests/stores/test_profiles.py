"""Profiles, and what is said when a store is not there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lorefuse.core.errors import ConfigError, UnreachableError
from lorefuse.core.profiles import mask, profile_values
from lorefuse.core.settings import settings
from lorefuse.core.stores import check_stores
from lorefuse.feature_store.online import redis_connection_string
from tests.helpers.store_servers import HOST, PASSWORD, Server, postgres_url, spare_port

PROJECT_PATH = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "LOREFUSE_POSTGRES_URL": "postgresql://me:word@db:5432",
    "LOREFUSE_REDIS_URL": "redis://cache:6379/1",
    "LOREFUSE_S3_BUCKET": "shop",
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SECRET_ACCESS_KEY": "s",
}


def write_profile(project_path: Path, text: str, name: str = "mine") -> Path:
    path = project_path / "profiles" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_a_profile_fills_in_the_environment() -> None:
    assert profile_values("production-local", PROJECT_PATH, ENVIRONMENT) == {
        "tracking_uri": "postgresql://me:word@db:5432/mlflow",
        "artifacts_uri": "s3://shop/mlflow",
        "feast_registry_url": "postgresql://me:word@db:5432/feast",
        "online_store_url": "redis://cache:6379/1",
        "tuning_storage_url": "postgresql://me:word@db:5432/optuna",
    }
    assert profile_values("local", PROJECT_PATH, {}) == {}


def test_the_environment_goes_before_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREFUSE_PROJECT", str(PROJECT_PATH))
    for name, value in {**ENVIRONMENT, "LOREFUSE_PROFILE": "production-local"}.items():
        monkeypatch.setenv(name, value)
    assert settings().tracking_uri == "postgresql://me:word@db:5432/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert settings().tracking_uri == "http://tracking:5000"
    assert settings().online_store_url == "redis://cache:6379/1"
    assert "word" not in repr(settings())


def test_an_unknown_profile_names_the_known_ones() -> None:
    for name in ("prod", "../profiles/local"):
        with pytest.raises(ConfigError, match="one of: local, production, production-local"):
            profile_values(name, PROJECT_PATH, {})


def test_missing_variables_are_listed() -> None:
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY, LOREFUSE_POSTGRES_URL, LOREFUSE_REDIS_URL"):
        profile_values("production-local", PROJECT_PATH, {"AWS_ACCESS_KEY_ID": "k", "LOREFUSE_S3_BUCKET": "b"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tracking_url: x", "tracking_url"),
        ("online_store_url: redis://:word@cache:6379", "holds a secret"),
        ("online_store_url: 6379", "not a text"),
        ("- a list", "not a profile"),
        ("a: [", "cannot be read"),
    ],
    ids=["unknown key", "secret", "number", "list", "no YAML"],
)
def test_a_bad_profile_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    write_profile(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        profile_values("mine", tmp_path, {})
    assert "word" not in str(caught.value)


def test_secrets_are_masked() -> None:
    assert mask("postgresql://me:s3cret@db:5432/x") == "postgresql://me:***@db:5432/x"
    assert mask("redis://:s3cret@cache:6379/0") == "redis://:***@cache:6379/0"
    assert mask("redis://cache:6379/0") == "redis://cache:6379/0"


def test_redis_urls_in_feasts_spelling() -> None:
    from feast.infra.online_stores.redis import RedisOnlineStore

    text = redis_connection_string("rediss://ann:0123%40x=y@cache:7000/3")
    nodes, options = RedisOnlineStore._parse_connection_string(text)
    assert nodes == [{"host": "cache", "port": "7000"}]
    assert options["password"] == "0123@x=y"
    assert (options["username"], options["db"], options["ssl"]) == ("ann", 3, True)
    with pytest.raises(ConfigError, match="comma") as caught:
        redis_connection_string("redis://:a%2Cb@cache")
    assert "a,b" not in str(caught.value)
    with pytest.raises(ConfigError, match="not a Redis URL"):
        redis_connection_string("http://cache:6379")


def test_all_stores_answer(production: dict[str, str]) -> None:
    lines = check_stores()
    assert [line.split(":")[0] for line in lines] == [
        "MLflow",
        "artifacts",
        "Feast registry",
        "online store",
        "studies",
    ]
    assert PASSWORD not in "".join(lines)
    assert check_stores.__module__ == "lorefuse.core.stores"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LOREFUSE_POSTGRES_URL", "postgresql://lorefuse:word@{host}:{port}", "MLflow's database cannot be reached"),
        ("LOREFUSE_REDIS_URL", "redis://:word@{host}:{port}/0", "online store cannot be used"),
        ("MLFLOW_S3_ENDPOINT_URL", "http://{host}:{port}", "bucket for artifacts cannot be used"),
        ("LOREFUSE_S3_BUCKET", "nobodys-bucket", "bucket for artifacts cannot be used"),
        ("LOREFUSE_POSTGRES_URL", "mysql://{host}:{port}", "not a PostgreSQL URL"),
    ],
    ids=["postgres", "redis", "s3", "bucket", "scheme"],
)
def test_a_store_that_is_not_there_is_said_at_once(
    production: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value.format(host=HOST, port=spare_port()))
    if value.startswith("mysql"):
        monkeypatch.setenv("LOREFUSE_FEAST_REGISTRY_URL", value.format(host=HOST, port=1))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    start_s = time.monotonic()
    with pytest.raises((UnreachableError, ConfigError), match=message) as caught:
        check_stores()
    assert time.monotonic() - start_s < 15
    assert "word" not in str(caught.value)


def test_a_wrong_password_and_a_missing_database(
    production: dict[str, str], postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = postgres_url(postgres.port)
    monkeypatch.setenv("LOREFUSE_FEAST_REGISTRY_URL", f"{right}/nowhere")
    with pytest.raises(UnreachableError, match="createdb nowhere"):
        check_stores()
    monkeypatch.setenv("LOREFUSE_FEAST_REGISTRY_URL", f"postgresql://lorefuse:wrong@{HOST}:{postgres.port}/feast")
    with pytest.raises(UnreachableError, match="password authentication failed"):
        check_stores()


def test_half_the_servers_do_not_do(production: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOREFUSE_PROFILE")
    monkeypatch.setenv("LOREFUSE_ONLINE_STORE_URL", "redis://cache:6379")
    with pytest.raises(ConfigError, match="both be servers"):
        check_stores()
