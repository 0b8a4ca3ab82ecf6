"""The way to MLflow: a SQLite file in the home on a laptop, a server where `MLFLOW_TRACKING_URI` names one."""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.atomic import atomic_file
from lorefuse.errors import ArtifactError, LorefuseError, UnreachableError
from lorefuse.settings import settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_TIMEOUT_S = 5
_SQLITE = "sqlite:///"
_OUR_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
_log = logging.getLogger(__name__)


def artifacts_path() -> Path:
    """Return the folder that holds the artifacts of a local tracking store."""
    return settings().home_path / "mlflow" / "artifacts"


def is_server(uri: str) -> bool:
    """Return whether a tracking URI names a server (and not a file)."""
    return uri.startswith(("http://", "https://"))


def connect() -> MlflowClient:
    """Return a client of `settings().tracking_uri`, creating the local store where it does not exist yet.

    Sets a short timeout and few retries for this process, unless the environment already decides them, and forbids
    MLflow to unpickle anything. The first use of a local store takes several seconds (its tables are made).

    Raises:
        UnreachableError: The tracking server does not answer within five seconds.
        ArtifactError: The local store is damaged, or cannot be created.
    """
    uri = settings().tracking_uri
    for name, value in _OUR_DEFAULTS.items():
        os.environ.setdefault(name, value)
    if is_server(uri):
        _probe(uri)
    import mlflow

    if uri.startswith(_SQLITE):
        create_store(Path(uri.removeprefix(_SQLITE)), artifacts_path())
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with explained("open its store"):
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def create_store(database_path: Path, artifact_root: Path) -> None:
    """Create an MLflow database, whole or not at all; an existing one is left alone.

    Args:
        database_path: The SQLite file.
        artifact_root: Where experiments without a place of their own keep artifacts.

    Raises:
        ArtifactError: The disk is full or not writable.
    """
    if database_path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    _log.info("Creating the MLflow store %s: a few seconds, once", database_path)
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        artifact_root.mkdir(parents=True, exist_ok=True)
        with atomic_file(database_path) as draft_path:
            # A process killed in the middle of the migrations would leave a database that MLflow cannot mend.
            SqlAlchemyStore(f"{_SQLITE}{draft_path}", artifact_root.as_uri())._dispose_engine()
    except (OSError, SQLAlchemyError) as error:
        raise _unusable(f"create {database_path}", error) from error


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, creating it where it is missing; a deleted one is restored."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        local = client.tracking_uri.startswith(_SQLITE)
        return str(client.create_experiment(name, artifact_location=artifacts_path().as_uri() if local else None))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn MLflow's exceptions into ours: one message, no traceback.

    Args:
        action: What was being done, e.g. ``register the model``.

    Raises:
        UnreachableError: The server stopped answering.
        ArtifactError: The disk is full or not writable, or the database is damaged.
        LorefuseError: MLflow refused.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        text = str(error)
        if "API request to" in text or "Max retries exceeded" in text:
            raise _unreachable(settings().tracking_uri, text) from error
        raise LorefuseError(f"MLflow could not {action}.", got=text[:500]) from error
    except (OSError, SQLAlchemyError) as error:
        raise _unusable(action, error) from error


def run_url(client: MlflowClient, experiment_id: str, run_id: str) -> str:
    """Return the address of a run in the MLflow UI; for a local store the one that `lorefuse ui` will serve."""
    from lorefuse.registry.server import DEFAULT_PORT

    base = client.tracking_uri if is_server(client.tracking_uri) else f"http://127.0.0.1:{DEFAULT_PORT}"
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def probe() -> None:
    """Ask the tracking server whether it is there, before hours of work are to be registered with it.

    Raises:
        UnreachableError: It does not answer. A file or database needs no asking.
    """
    uri = settings().tracking_uri
    if is_server(uri):
        _probe(uri)


def _probe(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_TIMEOUT_S):  # noqa: S310  (http only)
            return
    except urllib.error.HTTPError:
        return  # it answers: a gateway that wants a login, say; MLflow's own call will tell more
    except (OSError, ValueError) as error:
        raise _unreachable(uri, str(error)) from None


def _unusable(action: str, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"MLflow could not {action}.",
        expected=f"room and permission below {settings().home_path}, and a whole database",
        got=str(error)[:300],
        fix="free space, set LOREFUSE_HOME to another disk, or move a damaged mlflow.db away",
    )


def _unreachable(uri: str, got: Any) -> UnreachableError:
    return UnreachableError(
        f"The MLflow server {uri} does not answer.",
        expected=f"an answer from {uri}",
        got=str(got)[:300],
        fix="start it (lorefuse up), correct MLFLOW_TRACKING_URI, or unset it to use the local store",
    )
