"""Which feature store a folder stands for: two files on a laptop, or a Feast project on servers.

::

    registry.db online_store.db     files: all there is
    store.json                      servers: {"project", "registry", "online_store", "views"}; no URL, no secret

On servers every folder has a Feast project of its own, named after its content. So the stores of both splits, and those
of the versions before, stand side by side in one Redis: a rollback finds its own interest vectors, and filling the next
store changes no answer of the one that serves. After the last row a mark is set, ``lorefuse:filled:<project>`` → the
feature data folder; a store without it (half filled, flushed, restarted without its data) is filled again by the next
run and refused by serving.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from lorefuse.core.atomic import sha256_file, sha256_json
from lorefuse.core.errors import ArtifactError, ConfigError, UnreachableError, UsageError
from lorefuse.core.profiles import mask
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import read_digest
from lorefuse.core.stores import TIMEOUT_S, explained_redis, is_postgres, redis_client

if TYPE_CHECKING:
    from feast import RepoConfig

LOCAL_PROJECT = "lorefuse"
REGISTRY_FILE, ONLINE_FILE, SERVERS_FILE = "registry.db", "online_store.db", "store.json"
PRODUCTION_YAML = "feature_store.prod.yaml"
REDIS = "redis"
_READ_TIMEOUT_S = 60


def on_servers() -> bool:
    """Return whether the settings put features on servers."""
    return bool(settings().online_store_url)


def project_name(feature_data_path: Path, repo_path: Path) -> str:
    """Return the Feast project of a feature data folder: the same content has the same name on every machine."""
    files = [*repo_path.glob("*.py"), *repo_path.glob(PRODUCTION_YAML)]
    definitions = {file.name: sha256_file(file) for file in sorted(files)}
    return f"{LOCAL_PROJECT}_{sha256_json([read_digest(feature_data_path), definitions])[:16]}"


def server_facts(store_path: Path) -> dict[str, Any] | None:
    """Return `store.json` of a store that lies on servers; None where it is files.

    Raises:
        ArtifactError: `store.json` is damaged.
    """
    path = store_path / SERVERS_FILE
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if content["online_store"] != REDIS or not re.fullmatch(r"\w+", content["project"]):
            raise ValueError(f"online store {content['online_store']!r}, project {content['project']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read.", got=str(error), fix="run again: lorefuse run") from None
    return content


def store_project(store_path: Path) -> str:
    """Return the Feast project of a store folder."""
    facts = server_facts(store_path)
    return str(facts["project"]) if facts else LOCAL_PROJECT


def store_file(store_path: Path) -> Path:
    """Return the file that stands for a folder's online features: `online_store.db`, or a whole project's `store.json`.

    Raises:
        ArtifactError: There is none, or the online store has lost the project.
        UnreachableError: The online store does not answer.
        UsageError: The features are on servers that the settings do not name.
    """
    facts = server_facts(store_path)
    if facts is None:
        path = store_path / ONLINE_FILE
        if not path.is_file():
            raise ArtifactError(
                f"{store_path} has no online store.", expected=ONLINE_FILE, fix="run again: lorefuse run"
            )
        return path
    _need_servers()
    if filled_from(facts["project"]) is None:
        raise ArtifactError(
            "The online store does not hold the features of this model.",
            expected=f"project {facts['project']} in {mask(settings().online_store_url)}",
            got="nothing, or a store that was not filled to its end",
            fix="run again: lorefuse run",
        )
    return store_path / SERVERS_FILE


def _need_servers() -> None:
    if not (settings().online_store_url and settings().feast_registry_url):
        raise UsageError(
            "These features lie on servers, and the settings name none.",
            expected="LOREFUSE_ONLINE_STORE_URL and LOREFUSE_FEAST_REGISTRY_URL",
            fix="name the profile it was made with: LOREFUSE_PROFILE=production-local",
        )


def repo_config(store_path: Path, project: str | None = None) -> RepoConfig:
    """Return Feast's configuration of a store folder.

    Args:
        store_path: The folder.
        project: Project on the servers; default: what `store.json` says, or files where there is none.

    Raises:
        UsageError: The store lies on servers that the settings do not name.
        ConfigError: A URL is of an unknown kind, or `feature_store.prod.yaml` is not as it should be.
    """
    import feast

    repo_path = settings().folder("feature_repo")
    if project is None and (facts := server_facts(store_path)):
        project = str(facts["project"])
    if project is not None:
        return feast.RepoConfig(**_production(repo_path / PRODUCTION_YAML, project), repo_path=str(repo_path))
    return feast.RepoConfig(
        project=LOCAL_PROJECT,
        provider="local",
        registry=str(store_path / REGISTRY_FILE),
        online_store={"type": "sqlite", "path": str(store_path / ONLINE_FILE)},
        offline_store={"type": "lorefuse.feature_store.asof_store.AsofOfflineStore"},
        batch_engine={"type": "lorefuse.feature_store.bulk_engine.BulkComputeEngine"},
        entity_key_serialization_version=3,
        repo_path=str(repo_path),
    )


def _production(path: Path, project: str) -> dict[str, Any]:
    import yaml

    _need_servers()
    current = settings()
    if not is_postgres(current.feast_registry_url):
        got = mask(current.feast_registry_url)
        raise ConfigError("Feast's registry is not a PostgreSQL URL.", expected="postgresql://…", got=got)
    values = {
        "LOREFUSE_FEAST_PROJECT": project,
        # Without a driver Feast would warn, and take psycopg 3 all the same.
        "LOREFUSE_FEAST_REGISTRY": current.feast_registry_url.replace("postgresql://", "postgresql+psycopg://", 1),
        "LOREFUSE_FEAST_REDIS": redis_connection_string(current.online_store_url),
    }
    try:
        content: dict[str, Any] = _filled(yaml.safe_load(path.read_text("utf-8")), values)
    except (OSError, yaml.YAMLError, KeyError) as error:
        raise ConfigError(f"{path} cannot be used.", got=str(error), fix="restore it from the repository") from None
    return content


def _filled(content: Any, values: Mapping[str, str]) -> Any:
    """Fill ``${NAME}`` into the texts of parsed YAML: a value cannot break out of its place."""
    if isinstance(content, dict):
        return {key: _filled(value, values) for key, value in content.items()}
    if isinstance(content, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], content)
    return content


def redis_connection_string(url: str) -> str:
    """Return Feast's spelling of a Redis URL: ``host:port,db=0,password="…"``.

    Raises:
        ConfigError: It is no Redis URL, or its password holds a comma, at which Feast would cut it.

    >>> redis_connection_string("redis://:secret@127.0.0.1:6379/2")
    '127.0.0.1:6379,db=2,password="secret",socket_connect_timeout=5,socket_timeout=60'
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ConfigError(
            "The online store is not a Redis URL.", expected="redis://[:password@]host:port[/db]", got=mask(url)
        )
    words = [f"{parts.hostname}:{parts.port or 6379}", f"db={parts.path.strip('/') or 0}"]
    words += ["ssl=true"] if parts.scheme == "rediss" else []
    for name, value in (("username", parts.username), ("password", parts.password)):
        if value and "," in unquote(value):
            raise ConfigError(f"Feast cannot take a comma in Redis' {name}.", fix=f"choose another {name}")
        # As JSON: bare, Feast would take a password of digits for a number.
        words += [f"{name}={json.dumps(unquote(value))}"] if value else []
    return ",".join([*words, f"socket_connect_timeout={TIMEOUT_S}", f"socket_timeout={_READ_TIMEOUT_S}"])


def mark_key(project: str) -> str:
    """Return the key that says that a project's online store is whole."""
    return f"lorefuse:filled:{project}"


def filled_from(project: str) -> Path | None:
    """Return the feature data folder that a project was filled from; None where its online store is not whole.

    Raises:
        UnreachableError: The online store does not answer.
    """
    with redis_client(settings().online_store_url) as client:
        value: Any = client.get(mark_key(project))
    return None if value is None else Path(value.decode("utf-8"))


def set_filled(project: str, feature_data_path: Path | None) -> None:
    """Say that a project is whole; None: that it is being filled."""
    with redis_client(settings().online_store_url) as client:
        if feature_data_path is None:
            client.delete(mark_key(project))
        else:
            client.set(mark_key(project), str(feature_data_path))


@contextmanager
def explained_servers() -> Iterator[None]:
    """Turn what Feast lets through from Redis and PostgreSQL into one message; nothing to do for files.

    Raises:
        UnreachableError: One of them does not answer, or refuses.
    """
    if not on_servers():
        yield
        return
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with explained_redis(settings().online_store_url):
            yield
    except SQLAlchemyError as error:
        raise UnreachableError(
            "Feast's registry cannot be used.",
            expected=f"an answer from {mask(settings().feast_registry_url)}",
            got=mask(str(getattr(error, "orig", None) or error)).strip().splitlines()[0][:300],
            fix="start PostgreSQL, create the database, or correct LOREFUSE_FEAST_REGISTRY_URL",
        ) from None
