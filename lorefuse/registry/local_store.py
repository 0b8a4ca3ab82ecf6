"""MLflow's store in the home: a SQLite file, made whole or not at all, and a folder of artifacts."""

from __future__ import annotations

import fcntl
import logging
from pathlib import Path

from lorefuse.core.atomic import atomic_file
from lorefuse.core.errors import ArtifactError
from lorefuse.core.home import make_home
from lorefuse.core.settings import settings

SQLITE = "sqlite:///"
_log = logging.getLogger(__name__)


def artifacts_path() -> Path:
    """Return the folder that holds the artifacts of a local tracking store."""
    return settings().home_path / "mlflow" / "artifacts"


def artifacts_root() -> str:
    """Return where artifacts of a store without a server of its own go: S3 where the settings say so, else the home."""
    return settings().artifacts_uri or artifacts_path().as_uri()


def is_server(uri: str) -> bool:
    """Return whether a tracking URI names a server (and not a file)."""
    return uri.startswith(("http://", "https://"))


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
    try:
        make_home(settings().home_path)
        database_path.parent.mkdir(parents=True, exist_ok=True)
        lock = (database_path.parent / ".creating").open("w")
    except OSError as error:
        raise unusable(f"create {database_path}", error) from error
    with lock:
        # Two first runs in one home: the second waits, and finds what the first has made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database_path.exists():
            _create(database_path, artifact_root)


def _create(database_path: Path, artifact_root: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    _log.info("Creating the MLflow store %s: a few seconds, once", database_path)
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        artifact_root.mkdir(parents=True, exist_ok=True)
        with atomic_file(database_path) as draft_path:
            # A process killed in the middle of the migrations would leave a database that MLflow cannot mend.
            SqlAlchemyStore(f"{SQLITE}{draft_path}", artifact_root.as_uri())._dispose_engine()
    except (OSError, SQLAlchemyError) as error:
        raise unusable(f"create {database_path}", error) from error


def unusable(action: str, error: Exception) -> ArtifactError:
    """Return what is said of a store or folder that cannot be written or read."""
    return ArtifactError(
        f"MLflow could not {action}.",
        expected=f"room and permission below {settings().home_path}, and a whole database",
        got=str(error)[:300],
        fix="free space, set LOREFUSE_HOME to another disk, or move a damaged mlflow.db away",
    )
