"""Apply the definitions of `feature_repo/` to a Feast registry, and fill its online store."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lorefuse.core.settings import settings
from lorefuse.feature_store.online import explained_servers
from lorefuse.features.build import read_views

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig


def definitions_path() -> Path:
    """Return the folder of the feature definitions: the project's own, else the package's."""
    return settings().folder("feature_repo")


def open_config(config: RepoConfig) -> FeatureStore:
    """Open a feature store with Feast's SDK.

    Raises:
        UnreachableError: Its registry is a server that does not answer.
    """
    import feast

    os.environ.setdefault("FEAST_USAGE", "False")
    with explained_servers():
        return feast.FeatureStore(config=config)


def fill(config: RepoConfig, repo_path: Path, feature_data_path: Path, since: pd.Timestamp | None = None) -> list[str]:
    """Apply the definitions for a feature data folder and write its latest snapshots into the online store.

    Args:
        config: Feast's configuration.
        repo_path: The definitions.
        feature_data_path: Feature data folder; its place is written into the registry, so it must stay.
        since: Snapshots after this moment alone, on top of what the store holds; None: all.

    Returns:
        Names of the views.

    Raises:
        ArtifactError: The feature data folder holds no views.
        UnreachableError: A server does not answer.
    """
    cutoff = pd.Timestamp(read_views(feature_data_path)["data_cutoff"])
    store, views = apply_definitions(config, repo_path, feature_data_path)
    # The first snapshots stand at the epoch itself, the last ones a microsecond after the cutoff.
    start = pd.Timestamp("1969-12-31", tz="UTC") if since is None else since
    end = cutoff + pd.Timedelta(seconds=1)
    with explained_servers():
        store.materialize(start.to_pydatetime(), end.to_pydatetime())
    return views


def apply_definitions(config: RepoConfig, repo_path: Path, feature_data_path: Path) -> tuple[FeatureStore, list[str]]:
    """Apply the definitions for a feature data folder, without filling the online store.

    Returns:
        The store, and the names of its views.

    Raises:
        UnreachableError: A server does not answer.
    """
    store = open_config(config)
    with _definitions(repo_path, feature_data_path, offline_kind(config)) as modules, explained_servers():
        services = [modules["rec_services"].training, modules["rec_services"].serving_user]
        views = modules["rec_views"].feature_views
        entities = [modules["rec_entities"].user, modules["rec_entities"].item]
        store.apply([*entities, *views.values(), *services])
    return store, sorted(views)


def offline_kind(config: RepoConfig) -> str:
    """Return the `type` of a configuration's offline store: ``spark``, or the path of a class."""
    offline: Any = config.offline_config
    return str(offline["type"] if isinstance(offline, dict) else getattr(offline, "type", offline))


@contextmanager
def _definitions(repo_path: Path, feature_data_path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Import the repository's modules afresh for this feature data folder, as `feast apply` would."""
    names = ("rec_entities", "rec_sources", "rec_views", "rec_services")
    said = {"LOREFUSE_FEATURE_DATA": str(feature_data_path), "LOREFUSE_OFFLINE_STORE": kind}
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    sys.path.insert(0, str(repo_path))
    try:
        for name in names:
            sys.modules.pop(name, None)
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(repo_path))
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
