"""Model versions: create one in a single step, find it by content, move aliases, fetch what it carries."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.core.atomic import atomic_folder
from lorefuse.core.errors import ArtifactError, UnreachableError, UsageError
from lorefuse.core.schema import Alias
from lorefuse.export.bundle import Bundle
from lorefuse.privacy.retrain import refuse_overdue
from lorefuse.registry import flavor
from lorefuse.registry.tracking import connect, explained

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

TAG = "lorefuse."
_LOST = ("API request to", "Max retries exceeded", "Connection refused", "Could not connect", "timed out")
"""What MLflow, requests and boto say when a server does not answer."""
BUNDLE_TAG, STORE_TAG = f"{TAG}bundle_sha256", f"{TAG}store_sha256"


def aliases(name: str, client: MlflowClient | None = None) -> dict[str, str]:
    """Return alias → version of a registered model; empty where the model does not exist."""
    model = _registered_model(client or connect(), name)
    return {} if model is None else {str(alias): str(number) for alias, number in model.aliases.items()}


def promote(name: str, version: str, alias: str, client: MlflowClient | None = None) -> None:
    """Point an alias at a version; asking again changes nothing.

    Raises:
        UsageError: There is no such version, it was not registered by Lorefuse and carries no bundle, it was trained
            on people who were forgotten and its deadline is over, or the alias is one of ours written otherwise.
    """
    client = client or connect()
    if alias not in tuple(Alias) and alias.lower() in tuple(Alias):
        raise UsageError(
            f"Nothing follows the alias {alias}.", expected=alias.lower(), got=alias, fix=f"--alias {alias.lower()}"
        )
    entry = get_version(name, version, client)
    if BUNDLE_TAG not in entry.tags:
        raise UsageError(
            f"Version {version} of {name} cannot be served.",
            expected="a version registered by lorefuse, with its bundle",
            got=f"no tag {BUNDLE_TAG}",
            fix="register one: lorefuse run",
        )
    refuse_overdue(name, str(entry.version), str(entry.source))
    if aliases(name, client).get(alias) != str(version):
        with explained(f"set the alias {alias}"):
            client.set_registered_model_alias(name, alias, str(version))


def get_version(name: str, alias_or_version: str, client: MlflowClient | None = None) -> ModelVersion:
    """Return a version by its number or by an alias.

    Raises:
        UsageError: There is no such model, version or alias.
    """
    client = client or connect()
    known = aliases(name, client)
    number = known.get(str(alias_or_version), str(alias_or_version))
    entries = {str(entry.version): entry for entry in versions(name, client)}
    if number not in entries:
        raise UsageError(
            f"{name} has no version or alias {alias_or_version}.",
            expected=", ".join([*sorted(entries, key=int), *sorted(known)]) or "a registered model",
            got=str(alias_or_version),
            fix="register a model: lorefuse run" if not entries else "name one of the above",
        )
    return entries[number]


def versions(name: str, client: MlflowClient | None = None) -> list[ModelVersion]:
    """Return all versions of a registered model, newest first."""
    client = client or connect()
    found: list[ModelVersion] = []
    token = None
    while True:
        quoted = name.replace("'", "''")
        with explained("list model versions"):
            page = client.search_model_versions(f"name='{quoted}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda entry: -int(entry.version))


def find_version(name: str, bundle_digest: str, client: MlflowClient) -> ModelVersion | None:
    """Return the newest version that carries this very bundle.

    A version's tags are written in the same transaction as the version itself, so a version without
    `BUNDLE_TAG` is none of ours and is never taken for a finished one.
    """
    return next((entry for entry in versions(name, client) if entry.tags.get(BUNDLE_TAG) == bundle_digest), None)


def log_model(
    client: MlflowClient, run_id: str, *, bundle_path: Path, evaluation_path: Path, store_file: Path | None = None
) -> str:
    """Upload a model with all it carries into a run's experiment; no version exists yet.

    Call it before metrics are logged: MLflow copies a run's metrics to its model one by one, which takes seconds.

    Returns:
        The logged model's id.
    """
    from mlflow.models import Model

    with explained("log the model"):
        # Model.log alone would put the model into MLflow's active experiment, which is not the run's.
        experiment_id = client.get_run(run_id).info.experiment_id
        model = client.create_logged_model(experiment_id, "ranker", source_run_id=run_id, model_type="ranker")
        Model.log(
            artifact_path=None,
            flavor=flavor,
            model_id=model.model_id,
            run_id=run_id,
            bundle_path=bundle_path,
            evaluation_path=evaluation_path,
            store_file=store_file,
        )
    return str(model.model_id)


def create_version(
    client: MlflowClient, name: str, run_id: str, model_id: str, *, tags: dict[str, str], description: str
) -> str:
    """Make a logged model a version of the registered model, with all its tags, in one transaction.

    Returns:
        The version's number.
    """
    from mlflow.exceptions import MlflowException

    with explained("register the model"):
        if _registered_model(client, name) is None:
            try:
                client.create_registered_model(name, description="Ranker of Lorefuse: knowledge-injected CTR model.")
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                    raise
        entry = client.create_model_version(
            name, f"models:/{model_id}", run_id=run_id, tags=tags, description=description, model_id=model_id
        )
    return str(entry.version)


def fetch_bundle(name: str, alias_or_version: str, out_path: Path, client: MlflowClient | None = None) -> Bundle:
    """Download a version's bundle and check every byte of it.

    Args:
        name: Registered model.
        alias_or_version: ``champion``, ``challenger`` or a number.
        out_path: Folder that appears, whole or not at all.
        client: A connected client.

    Returns:
        The bundle at `out_path`.

    Raises:
        UsageError: There is no such version.
        ArtifactError: The version's artifacts are missing, truncated or changed.
    """
    entry = get_version(name, alias_or_version, client)
    with tempfile.TemporaryDirectory() as temporary:
        bundle = fetch_registered(entry, Path(temporary))
        with atomic_folder(out_path) as draft_path:
            shutil.copytree(bundle.path, draft_path, dirs_exist_ok=True)
    return Bundle(out_path, bundle.sha256, bundle.data_cutoff)


def fetch_registered(entry: ModelVersion, out_path: Path) -> Bundle:
    """Download a version's bundle into a folder, and hold every byte of it to what was registered.

    Raises:
        ArtifactError: It is not there, or not the one that was registered.
        UnreachableError: The server that holds it does not answer.
    """
    bundle = Bundle.load(fetch(entry, flavor.BUNDLE_FOLDER, out_path))
    if bundle.digest != entry.tags.get(BUNDLE_TAG):
        raise ArtifactError(
            f"The bundle of {entry.name} version {entry.version} is not the one that was registered.",
            expected=f"digest {entry.tags.get(BUNDLE_TAG)}",
            got=bundle.digest,
            fix="register the model again: lorefuse run",
        )
    return bundle


def fetch(entry: ModelVersion, folder: str, out_path: Path) -> Path:
    """Download one folder of a version's artifacts.

    Raises:
        ArtifactError: It is not there.
        UnreachableError: The server that holds it does not answer.
        OSError: There is no room for it here.
    """
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    uri = f"models:/{entry.name}/{entry.version}/{folder}"
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(out_path)))
    except (MlflowException, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise  # the trouble is here, not there
        if any(sign in str(error) for sign in _LOST):
            raise UnreachableError(
                f"The artifacts of version {entry.version} of {entry.name} are out of reach.",
                expected=f"an answer from {entry.source}",
                got=str(error)[:300],
                fix="start the server that holds them",
            ) from error
        raise ArtifactError(
            f"Version {entry.version} of {entry.name} does not carry {folder}/.",
            expected=f"artifacts at {entry.source}",
            got=str(error)[:300],
            fix="register the model again: lorefuse run",
        ) from error


def _registered_model(client: MlflowClient, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    with explained("read the registered model"):
        try:
            return client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
