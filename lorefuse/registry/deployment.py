"""What people ask of a deployment, written where the reconciler reads it: in the registry."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lorefuse.core.errors import UsageError
from lorefuse.core.schema import Alias
from lorefuse.registry.tracking import connect, explained
from lorefuse.registry.version import TAG, aliases, promote, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEPLOYMENT_TAG = f"{TAG}deployment."
STATE_TAG, TIME_TAG = f"{DEPLOYMENT_TAG}state", f"{DEPLOYMENT_TAG}time"
REQUEST_TAG = f"{DEPLOYMENT_TAG}request"
"""Set by whoever wants a version to be tried again although it was refused, or its trial to end well now."""


def request(name: str, version: str, client: MlflowClient | None = None) -> None:
    """Ask for a version anew: a refusal is forgotten, a trial ends with its promotion."""
    with explained("write down the request"):
        (client or connect()).set_model_version_tag(name, version, REQUEST_TAG, str(time.time_ns()))


def note_live(name: str, version: int, previous: int | None, client: MlflowClient | None = None) -> None:
    """Write down that a version answers now, and the one before no more: what the reconciler writes, without one."""
    client, time_text = client or connect(), datetime.now(UTC).isoformat(timespec="milliseconds")
    states = {version: "live"} | ({previous: "standby"} if previous not in (None, version) else {})
    known = {str(entry.version) for entry in versions(name, client)}
    with explained("write down the deployment"):
        for number, state in states.items():
            if str(number) in known:  # a registry that was begun anew does not know the version before
                client.set_model_version_tag(name, str(number), STATE_TAG, state)
                client.set_model_version_tag(name, str(number), TIME_TAG, time_text)


def roll_back(name: str, client: MlflowClient | None = None) -> tuple[str, str]:
    """Give the alias `champion` back to the version that was live last before.

    Returns:
        The version that was champion, and the one that is now.

    Raises:
        UsageError: No version is champion, or none was live before.
    """
    client = client or connect()
    champion = aliases(name, client).get(Alias.CHAMPION)
    # While the champion is on trial, or was refused, another one is still live: that one is meant.
    served = [
        entry
        for entry in versions(name, client)
        if str(entry.version) != champion and entry.tags.get(STATE_TAG) in ("live", "standby")
    ]
    served.sort(key=lambda entry: (entry.tags.get(STATE_TAG) == "live", entry.tags.get(TIME_TAG, "")))
    if champion is None or not served:
        raise UsageError(
            "There is no version to go back to.",
            expected=f"a version of {name} that was live before",
            got=f"champion: {champion or 'none'}",
            fix="name one: lorefuse promote <version>",
        )
    number = str(served[-1].version)
    promote(name, number, Alias.CHAMPION, client)
    request(name, number, client)
    return champion, number
