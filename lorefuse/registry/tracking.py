"""The way to MLflow: a SQLite file in the home on a laptop, a server or PostgreSQL where the settings name one.

With a database, this process writes artifacts itself: to `settings().artifacts_uri` (S3, say), else into the home.
"""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorefuse.core.errors import LorefuseError, UnreachableError, UsageError
from lorefuse.core.profiles import mask
from lorefuse.core.settings import settings
from lorefuse.core.stores import check_postgres, check_stores, is_postgres, s3_errors
from lorefuse.registry.local_store import SQLITE, artifacts_path, artifacts_root, create_store, is_server, unusable
from lorefuse.registry.own_server import DEFAULT_PORT, own_login

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_TIMEOUT_S = 5
_OUR_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def connect() -> MlflowClient:
    """Return a client of `settings().tracking_uri`, creating the local store where it does not exist yet.

    Sets a short timeout and few retries for this process, unless the environment already decides them, and forbids
    MLflow to unpickle anything. The first use of a local store takes several seconds (its tables are made).

    Raises:
        UnreachableError: The tracking server or database does not answer within five seconds.
        ArtifactError: The local store is damaged, or cannot be created.
    """
    uri = settings().tracking_uri
    for name, value in _OUR_DEFAULTS.items():
        os.environ.setdefault(name, value)
    if is_server(uri):
        _probe(uri)
        _log_in(uri)
    elif is_postgres(uri):
        check_postgres(uri, "MLflow's database")  # MLflow itself would try for minutes
        # Or the experiment `Default`, which MLflow makes with a new database, would point into the current folder.
        os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", artifacts_root())
    import mlflow

    if uri.startswith(SQLITE):
        create_store(Path(uri.removeprefix(SQLITE)), artifacts_path())
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with explained("open its store"):
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def _log_in(uri: str) -> None:
    """Give MLflow's client the login of this home's own server; others' are given by the environment."""
    login = own_login(uri)
    if login is not None:
        os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = login


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, creating it where it is missing; a deleted one is restored."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        own = is_server(client.tracking_uri)
        return str(client.create_experiment(name, artifact_location=None if own else artifacts_root()))
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
        if re.search(r"failed with error code 40[13]\b", text) or error.error_code in (
            "PERMISSION_DENIED",
            "UNAUTHENTICATED",
        ):
            raise _refused(action, text) from error
        if "API request to" in text or "Max retries exceeded" in text:
            raise _unreachable(settings().tracking_uri, text) from error
        if is_postgres(settings().tracking_uri) and "psycopg.OperationalError" in text:
            raise _unreachable(mask(settings().tracking_uri), mask(text)) from error
        raise LorefuseError(f"MLflow could not {action}.", got=mask(text)[:500]) from error
    except s3_errors(settings().artifacts_uri) as error:
        raise _bucket_lost(action, error) from error
    except (OSError, SQLAlchemyError) as error:
        if is_postgres(settings().tracking_uri) and isinstance(error, SQLAlchemyError):
            raise _unreachable(mask(settings().tracking_uri), mask(str(error))) from error
        raise unusable(action, error) from error


def run_url(client: MlflowClient, experiment_id: str, run_id: str) -> str:
    """Return the address of a run in the MLflow UI; for a local store the one that `lorefuse ui` will serve."""
    base = client.tracking_uri if is_server(client.tracking_uri) else f"http://127.0.0.1:{DEFAULT_PORT}"
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def probe() -> None:
    """Ask MLflow and all other stores that are servers whether they are there, before hours of work are to go there.

    Raises:
        ConfigError: The settings of the stores do not fit together.
        UnreachableError: One does not answer. A file needs no asking.
    """
    uri = settings().tracking_uri
    if is_server(uri):
        _probe(uri)
    check_stores()


def _probe(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_TIMEOUT_S):  # noqa: S310  (http only)
            return
    except urllib.error.HTTPError:
        return  # it answers: a gateway that wants a login, say; MLflow's own call will tell more
    except (OSError, ValueError) as error:
        raise _unreachable(uri, str(error)) from None


def _bucket_lost(action: str, error: BaseException) -> UnreachableError:
    return UnreachableError(
        f"MLflow could not {action}: the artifacts' bucket does not answer, or refuses.",
        expected=settings().artifacts_uri,
        got=str(error)[:300],
        fix="start the object storage, or correct MLFLOW_S3_ENDPOINT_URL and the keys; then run again",
    )


def _refused(action: str, got: str) -> UsageError:
    return UsageError(
        f"MLflow does not let this account {action}.",
        expected="an account whose role may (docs/infra.md), in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        got=f"{os.environ.get('MLFLOW_TRACKING_USERNAME') or 'no account'}: {got[:300]}",
        fix="name the account of the right role; lorefuse accounts makes those that are missing",
    )


def _unreachable(uri: str, got: Any) -> UnreachableError:
    return UnreachableError(
        f"The MLflow {'server' if is_server(uri) else 'database'} {uri} does not answer.",
        expected=f"an answer from {uri}",
        got=str(got)[:300],
        fix="start it (lorefuse up), correct MLFLOW_TRACKING_URI, or unset it to use the local store",
    )
