"""Ask the stores that the settings name whether they are there, before hours of work are to be kept in them.

Local files need no asking. Every probe gives up after five seconds and says what to do; no message holds a password.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lorefuse.core.errors import ConfigError, UnreachableError
from lorefuse.core.profiles import mask
from lorefuse.core.settings import Settings, settings

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT_S = 5
_DOCS = "docs/stores.md"


def check_stores(current: Settings | None = None) -> list[str]:
    """Ask every server among the stores whether it can be used.

    Args:
        current: Settings to check; default: this process's.

    Returns:
        One line a store, e.g. ``online store: redis://127.0.0.1:6379``.

    Raises:
        ConfigError: The settings do not fit together, or a URL is of an unknown kind.
        UnreachableError: A store does not answer, or refuses.
    """
    current = current or settings()
    if bool(current.feast_registry_url) != bool(current.online_store_url):
        raise ConfigError(
            "Feast's registry and its online store must both be servers, or both files.",
            expected="LOREFUSE_FEAST_REGISTRY_URL and LOREFUSE_ONLINE_STORE_URL",
            got="one of them alone",
        )
    lines = []
    if is_postgres(current.tracking_uri):
        check_postgres(current.tracking_uri, "MLflow's database")
        lines.append(f"MLflow: {mask(current.tracking_uri)}")
        if current.artifacts_uri.startswith("s3://"):
            check_bucket(current.artifacts_uri)
            lines.append(f"artifacts: {current.artifacts_uri}")
    if current.feast_registry_url:
        check_postgres(current.feast_registry_url, "Feast's registry")
        lines.append(f"Feast registry: {mask(current.feast_registry_url)}")
        with redis_client(current.online_store_url) as client:
            client.ping()
        lines.append(f"online store: {mask(current.online_store_url)}")
    if current.tuning_storage_url:
        check_postgres(current.tuning_storage_url, "The storage of studies")
        lines.append(f"studies: {mask(current.tuning_storage_url)}")
    return lines


def is_postgres(uri: str) -> bool:
    """Return whether a URI names a PostgreSQL database."""
    return uri.startswith(("postgresql://", "postgresql+psycopg://"))


def check_postgres(url: str, what: str) -> None:
    """Open a connection to a database and close it again.

    Args:
        url: ``postgresql://user:password@host:port/database``.
        what: What is kept there, for the message.

    Raises:
        ConfigError: The URL is not PostgreSQL's.
        UnreachableError: Nobody answers, the password is wrong, or the database does not exist.
    """
    psycopg = _driver("psycopg")
    if not is_postgres(url):
        raise ConfigError(f"{what} is not a PostgreSQL URL.", expected="postgresql://…", got=mask(url), fix=_DOCS)
    try:
        psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=TIMEOUT_S).close()
    except psycopg.Error as error:
        raise UnreachableError(
            f"{what} cannot be reached.",
            expected=f"a connection to {mask(url)}",
            got=_last_line(error),
            fix=f"start PostgreSQL, create the database (createdb {urlsplit(url).path.strip('/')}), or correct the URL",
        ) from None


@contextmanager
def redis_client(url: str) -> Iterator[Redis]:
    """Open a connection to Redis; whatever goes wrong with it becomes one clear message.

    Raises:
        ConfigError: The URL is not Redis'.
        UnreachableError: Nobody answers, the password is wrong, or the memory is full.
    """
    redis = _driver("redis")
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S, retry=None)
    except ValueError as error:
        got = f"{mask(url)}: {error}"
        raise ConfigError("The online store is not a Redis URL.", expected="redis://…", got=got, fix=_DOCS) from None
    with explained_redis(url), client:
        yield client


@contextmanager
def explained_redis(url: str) -> Iterator[None]:
    """Turn the errors of Redis' client, and those that Feast lets through, into one message.

    Raises:
        UnreachableError: Nobody answers, the password is wrong, or the memory is full.
    """
    redis = _driver("redis")
    try:
        yield
    except redis.RedisError as error:
        raise UnreachableError(
            "The online store cannot be used.",
            expected=f"an answer from {mask(url)}",
            got=_last_line(error),
            fix="start Redis, give it memory, or correct LOREFUSE_ONLINE_STORE_URL (LOREFUSE_REDIS_URL in a profile)",
        ) from None


def check_bucket(uri: str) -> None:
    """Ask S3, or what stands in for it at `MLFLOW_S3_ENDPOINT_URL`, for the bucket of a URI.

    Raises:
        ConfigError: boto3 is not installed.
        UnreachableError: Nobody answers, the keys are refused, or there is no such bucket.
    """
    boto3, exceptions = _driver("boto3"), _driver("botocore.exceptions")
    bucket, endpoint = urlsplit(uri).netloc, os.environ.get("MLFLOW_S3_ENDPOINT_URL")
    patience = _driver("botocore.config").Config(
        connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1}
    )
    try:
        boto3.client("s3", endpoint_url=endpoint, config=patience).head_bucket(Bucket=bucket)
    except (exceptions.BotoCoreError, exceptions.ClientError, ValueError) as error:
        raise UnreachableError(
            "The bucket for artifacts cannot be used.",
            expected=f"{bucket} at {endpoint or 'AWS'}",
            got=_last_line(error),
            fix="make the bucket, or correct MLFLOW_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from None


def s3_errors(uri: str) -> tuple[type[BaseException], ...]:
    """Return what the S3 client raises where artifacts go to S3; nothing where they do not."""
    if not uri.startswith("s3://"):
        return ()
    botocore, boto3 = _driver("botocore.exceptions"), _driver("boto3.exceptions")
    return botocore.BotoCoreError, botocore.ClientError, boto3.Boto3Error


def _driver(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            "A store needs a package that is not installed.",
            got=str(error),
            fix=f"pip install {name.partition('.')[0]}",
        ) from None


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return mask(lines[-1])[:300] if lines else type(error).__name__
