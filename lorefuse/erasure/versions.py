"""Model versions in the registry: which hold a person, their artifacts without them, and tags that say so."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from lorefuse.core.atomic import sha256_file, sha256_json
from lorefuse.core.settings import settings
from lorefuse.erasure.person import Person
from lorefuse.erasure.places import Place, search
from lorefuse.erasure.units import NAMES_FILES, by_unit, erase_unit, reseal
from lorefuse.export.bundle import BUNDLE_FILE, CONFIG_FILE
from lorefuse.privacy.retrain import DEFAULT_DAYS
from lorefuse.registry import flavor
from lorefuse.registry.local_store import is_server
from lorefuse.registry.models import known_models
from lorefuse.registry.run import DATASET_TAG
from lorefuse.registry.tracking import connect, explained
from lorefuse.registry.version import BUNDLE_TAG, STORE_TAG, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        model: Registered model.
        number: Its number.
        model_id: MLflow's name of what was logged.
        run_id: MLflow run that made it.
        location: URI of its artifacts.
        tags: Its tags.
    """

    model: str
    number: str
    model_id: str
    run_id: str
    location: str
    tags: dict[str, str]

    @property
    def local_path(self) -> Path | None:
        """Folder of its artifacts; None where they are elsewhere."""
        parts = urlparse(self.location)
        return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def registered() -> list[Version]:
    """Return all versions of all models that were registered by Lorefuse; none where there is no registry yet.

    Raises:
        UnreachableError: The registry does not answer: nothing was touched.
    """
    uri = settings().tracking_uri
    if uri.startswith("sqlite:///") and not is_server(uri) and not Path(uri.removeprefix("sqlite:///")).is_file():
        return []
    client = connect()
    found = []
    for name in known_models(client):
        for entry in versions(name, client):
            if BUNDLE_TAG in entry.tags:
                model_id = str(entry.source).rpartition("/")[2]
                with explained("look up a model's artifacts"):
                    location = str(client.get_logged_model(model_id).artifact_location)
                tags = {str(name): str(text) for name, text in entry.tags.items()}
                found.append(Version(name, str(entry.version), model_id, str(entry.run_id), location, tags))
    return found


def holds(version: Version, person: Person, places: Sequence[Place], dataset_digests: set[str]) -> bool:
    """Tell whether a version was trained on a person, or carries their features or names.

    Args:
        version: The version.
        person: Whom.
        places: What was found on disk.
        dataset_digests: Of the datasets that hold the person.
    """
    if version.tags.get(DATASET_TAG) in dataset_digests:
        return True
    if (path := version.local_path) is not None:
        return any(place.path.is_relative_to(path) for place in places)
    with tempfile.TemporaryDirectory() as folder:
        return bool(search([_download(version, Path(folder))], person, settings().home_path))


def retrain_days(version: Version) -> int:
    """Return `privacy.retrain_days` of the configuration that made a version."""
    path = version.local_path
    if path is not None and (config := path / flavor.BUNDLE_FOLDER / CONFIG_FILE).is_file():
        section = json.loads(config.read_text("utf-8")).get("privacy") or {}
        return int(section.get("retrain_days", DEFAULT_DAYS))
    return DEFAULT_DAYS


def erase_remote(version: Version, person: Person) -> list[str]:
    """Replace the files of a version whose artifacts are not on this machine; return what was replaced."""
    with tempfile.TemporaryDirectory() as folder:
        root = _download(version, Path(folder))
        units = by_unit(search([root], person, settings().home_path))
        for unit_path, places in units.items():
            erase_unit(unit_path, places, person)
        changed = {place.path for places in units.values() for place in places}
        bundle_path = root / flavor.BUNDLE_FOLDER
        # The record last: a process killed between two files finds the rest to do by their digests.
        resealed = reseal(bundle_path) or any(path.parent == bundle_path for path in changed)
        order = [*sorted(changed), *([bundle_path / BUNDLE_FILE] if resealed else [])]
        for path in order:
            with explained("replace a model's artifacts"):
                _repository(version).log_artifact(str(path), str(path.parent.relative_to(root)))
        return [f"{version.location}/{path.relative_to(root)}" for path in order]


def retag(version: Version, note: Callable[[str, str, str], None]) -> None:
    """Let the registry say what a version's bundle and store are now.

    Args:
        version: One whose artifacts may have changed.
        note: Told of the old and the new digest of its bundle, and of the new one of its store, before the registry is.
    """
    tags = _digests(version)
    changed = {name: text for name, text in tags.items() if version.tags.get(name) != text}
    if not changed:
        return
    note(version.tags[BUNDLE_TAG], tags[BUNDLE_TAG], tags.get(STORE_TAG, ""))
    client: MlflowClient = connect()
    with explained("write down what a version is now"):
        for name, text in changed.items():
            client.set_tag(version.run_id, name, text)
            client.set_model_version_tag(version.model, version.number, name, text)


def _digests(version: Version) -> dict[str, str]:
    path = version.local_path
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            return _digests_in(_download(version, Path(folder)), version)
    return _digests_in(path, version)


def _digests_in(path: Path, version: Version) -> dict[str, str]:
    content = json.loads((path / flavor.BUNDLE_FOLDER / BUNDLE_FILE).read_text("utf-8"))
    digests = {BUNDLE_TAG: sha256_json({str(name): str(digest) for name, digest in content["sha256"].items()})}
    files = sorted((path / flavor.STORE_FOLDER).glob("*")) if STORE_TAG in version.tags else []
    return digests | ({STORE_TAG: sha256_file(files[0])} if files else {})


def _download(version: Version, folder_path: Path) -> Path:
    """Fetch what may name users: a few files of the bundle, and the online store."""
    repository = _repository(version)
    with explained("fetch a model's artifacts"):
        for folder, names in ((flavor.BUNDLE_FOLDER, (*NAMES_FILES, BUNDLE_FILE)), (flavor.STORE_FOLDER, None)):
            there = {Path(entry.path).name for entry in repository.list_artifacts(folder)}
            for name in sorted(there if names is None else there & set(names)):
                repository.download_artifacts(f"{folder}/{name}", str(folder_path))
    return folder_path


def _repository(version: Version) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(version.location)
