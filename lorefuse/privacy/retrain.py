"""Versions that were trained on people who were forgotten: weights cannot be edited, so they have a deadline.

``<home>/privacy/retrain.json`` names them; past its deadline no alias is given to such a version any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.core.settings import settings

RETRAIN_FILE = "retrain.json"
DEFAULT_DAYS = 30


@dataclass(frozen=True)
class Due:
    """A version that has to be replaced.

    Attributes:
        model: Registered model.
        version: Its number.
        model_id: MLflow's own name of what was logged: numbers are given anew where a registry is begun anew.
        forgotten_at: When the first of these people was forgotten, ISO 8601 in UTC.
        deadline: After this moment it is not promoted any more, likewise.
    """

    model: str
    version: str
    model_id: str
    forgotten_at: str
    deadline: str

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return datetime.now(UTC) > datetime.fromisoformat(self.deadline)


def due(model: str, version: str, model_id: str, days: int) -> Due:
    """Return a version's entry as of now."""
    now = datetime.now(UTC).replace(microsecond=0)
    return Due(model, version, model_id, now.isoformat(), (now + timedelta(days=days)).isoformat())


def load_queue(home_path: Path | None = None) -> list[Due]:
    """Return the versions that have to be replaced.

    Raises:
        ArtifactError: The file is damaged.
    """
    path = _path(home_path)
    try:
        return [Due(**entry) for entry in json.loads(path.read_text("utf-8"))["versions"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} cannot be read: it says which versions may not be promoted any more.",
            expected='{"versions": [...]}',
            got=repr(error),
            fix="restore it from a backup, or from the receipts beside it",
        ) from None


def queue(entries: Iterable[Due], home_path: Path | None = None) -> list[Due]:
    """Add versions; one that is there keeps its earlier deadline. Return those of `entries` as they now stand."""
    known = {entry.model_id: entry for entry in load_queue(home_path)}
    added = {entry.model_id: known.get(entry.model_id, entry) for entry in entries}
    if added.keys() - known.keys():
        path = _path(home_path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(path, {"versions": [asdict(entry) for entry in (known | added).values()]})
    return list(added.values())


def refuse_overdue(model: str, version: str, source: str) -> None:
    """Raise UsageError where a version's deadline has passed.

    Args:
        model: Registered model.
        version: Its number.
        source: MLflow's source of the version; it ends with the `model_id`.
    """
    for entry in load_queue():
        if source.endswith(entry.model_id) and entry.is_over:
            raise UsageError(
                f"Version {version} of {model} was trained on people who were forgotten, and its time is over.",
                expected=f"a promotion before {entry.deadline}, or a version trained after {entry.forgotten_at}",
                got=f"version {version}",
                fix="train one without them: lorefuse run",
            )


def _path(home_path: Path | None) -> Path:
    return (home_path or settings().home_path) / "privacy" / RETRAIN_FILE
