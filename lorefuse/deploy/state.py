"""What a reconciler knows about one server, on disk: it may be killed at any moment and goes on from here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import write_json
from lorefuse.core.processes import boot_clock_s, boot_id

STATE_FILE = "deployment.json"


class Stage(StrEnum):
    """Where a server stands; also the value of the tag `lorefuse.deployment.state` on a model version."""

    EMPTY = "empty"  # nothing was ever deployed
    LIVE = "live"  # one version answers everybody
    SHADOW = "shadow"  # a new version gets a copy of each request; its answer is dropped
    CANARY = "canary"  # a new version answers a share of the users
    STANDBY = "standby"  # (of a version) it answered before, and is still loaded
    REJECTED = "rejected"  # (of a version) it was not fit to serve
    ROLLED_BACK = "rolled_back"  # (of a version) it served, or was tried, and was taken back


@dataclass
class Verdict:
    """Why a version is not served here.

    Attributes:
        stage: `rejected` or `rolled_back`.
        reason: In words.
        digest: Of its bundle: another bundle under the same number is another version.
        request: The last request to deploy it that was heeded; a newer one lifts the verdict.
        time: ISO 8601, UTC.
    """

    stage: str
    reason: str
    digest: str
    request: str
    time: str


@dataclass
class ServerState:
    """State of one server.

    Attributes:
        server: Its name.
        stage: `empty`, `live`, `shadow` or `canary`.
        desired: Version that the alias names; None where there is none, or the registry was never reached.
        actual: Version that answers (most) users.
        previous: Version that answered before and is still loaded.
        candidate: Version on trial.
        share: Share of the users that the candidate answers.
        since: Since when the stage holds, ISO 8601, UTC.
        boot_id: Start of the machine in which the stage was entered.
        since_boot_s: Seconds after it, by a clock that nobody sets.
        reason: Why it stands as it does, in words.
        problem: What is wrong now; empty where nothing is.
        verdicts: Version → why it is not served here.
        baseline: The metrics at the beginning of the trial.
        request: The last request to deploy that was heeded.
        registry: Why the registry does not say what it wants; empty where it does.
    """

    server: str
    stage: str = Stage.EMPTY
    desired: int | None = None
    actual: int | None = None
    previous: int | None = None
    candidate: int | None = None
    share: float = 0.0
    since: str = ""
    boot_id: str = ""
    since_boot_s: float = 0.0
    reason: str = ""
    problem: str = ""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    request: str = ""
    registry: str = ""

    def enter(self, stage: Stage, reason: str, **changes: Any) -> None:
        """Move to a stage, with the time and the reason."""
        self.stage, self.reason, self.since = stage, reason, now()
        self.boot_id, self.since_boot_s = boot_id(), boot_clock_s()
        for name, value in changes.items():
            setattr(self, name, value)

    def elapsed_s(self) -> float:
        """Seconds since the stage was entered; by the calendar only where the machine was started again since."""
        if not self.since:
            return 0.0
        if self.boot_id and self.boot_id == boot_id():
            return boot_clock_s() - self.since_boot_s
        return (datetime.now(UTC) - datetime.fromisoformat(self.since)).total_seconds()


def now() -> str:
    """Return this moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def load_state(path: Path, server: str) -> ServerState:
    """Read a server's state; a file that is missing or damaged is an empty state, for Triton itself tells the rest."""
    try:
        content = json.loads(path.read_text("utf-8"))
        known = {entry.name for entry in fields(ServerState)}
        content = {name: value for name, value in content.items() if name in known}
        content["verdicts"] = {number: Verdict(**entry) for number, entry in content.get("verdicts", {}).items()}
        return ServerState(**{**content, "server": server})
    except (OSError, ValueError, TypeError, AttributeError):
        return ServerState(server)


def save_state(path: Path, state: ServerState) -> None:
    """Write a server's state, whole or not at all."""
    write_json(path, asdict(state))
