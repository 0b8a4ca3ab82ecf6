"""Bring a model version to serve; whatever goes wrong on the way, the version before goes on answering."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import DeployError, LorefuseError, UsageError
from lorefuse.deploy.control import Control
from lorefuse.deploy.fronts import drop_trial, load_companions, restore_parts
from lorefuse.deploy.remote import Server
from lorefuse.deploy.rollout import Rollout
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.deploy.verify import verify_ready
from lorefuse.export.signature import RECOMMEND, STABLE

DEPLOYED_FILE = "deployed.json"


def deploy(
    bundle_path: Path, store_path: Path, version: int, *, supervisor: Supervisor | None = None
) -> dict[str, Any]:
    """Write a version into the model repository, load it beside the one that answers, check it, then switch.

    Where the new version can stand beside the old one (see `rollout`), both are loaded until the new one has passed
    its canary, the switch is one reload of `recommend`, and the old one stays loaded for an instant return. Where it
    cannot, it replaces the old one, which is brought back if the canary fails; the gap lasts as long as the load. A
    number that was deployed before with other content (a registry that was begun anew) is replaced in place. The
    version that already answers is only checked.

    Args:
        bundle_path: Model bundle.
        store_path: Feature store folder.
        version: Number of the version, as in the registry.
        supervisor: The server; default: the one of this project.

    Returns:
        url, version, previous, side_by_side, adopted, latency_ms, max_score_difference, elapsed_s.

    Raises:
        ArtifactError: The bundle or the store is not whole; nothing was touched.
        DeployError: The version could not be brought to serve; the one before still answers.
    """
    supervisor = supervisor or Supervisor()
    with supervisor.repository.lock():
        return _deploy(bundle_path, store_path, version, supervisor)


def _deploy(bundle_path: Path, store_path: Path, version: int, supervisor: Supervisor) -> dict[str, Any]:
    start_s = time.perf_counter()
    repository = supervisor.repository
    previous = repository.active
    built = repository.add(bundle_path, store_path, version)
    started = supervisor.start()
    rollout = Rollout(supervisor, version)
    if repository.trial is not None:  # what is deployed by hand ends a trial
        repository.configure_front(previous or version)
        rollout.control.load(RECOMMEND)
        load_companions(supervisor, previous or version)
        drop_trial(supervisor)
    side_by_side = previous not in (None, version) and rollout.fits_beside()
    unchanged = built["reused"] and previous == version
    try:
        if unchanged:
            report, side_by_side = _verify_or_restart(supervisor, version), True
            repository.forget_replaced()
        elif rollout.fits_beside():
            report = _bring_up(rollout, previous)
        else:
            report = rollout.replace()
    except LorefuseError as error:
        still = "nothing is served"
        if previous is not None and not unchanged and repository.active == previous:
            still = f"version {previous} still answers" + (", as it was before" if previous == version else "")
        raise DeployError(f"Version {version} could not be brought to serve; {still}.", got=str(error)) from error
    note_sources(supervisor, bundle_path, store_path, version)
    return _report(supervisor, version, previous, started, report, start_s, side_by_side=side_by_side)


def _bring_up(rollout: Rollout, previous: int | None) -> dict[str, Any]:
    try:
        rollout.bring_beside()
        return rollout.switch()
    except LorefuseError:
        rollout.withdraw(previous)
        raise


def _verify_or_restart(supervisor: Supervisor, version: int) -> dict[str, Any]:
    """Ask the deployed version; where it does not answer, a new server may: loading what is unchanged does nothing."""
    try:
        restore_parts(supervisor)
        return verify_ready(supervisor.url, supervisor.repository, version)
    except DeployError:
        supervisor.restart()
        return verify_ready(supervisor.url, supervisor.repository, version)


def _report(
    supervisor: Supervisor,
    version: int,
    previous: int | None,
    started: dict[str, Any],
    report: dict[str, Any],
    start_s: float,
    *,
    side_by_side: bool,
) -> dict[str, Any]:
    return {
        "url": supervisor.url,
        "version": version,
        "previous": previous,
        "side_by_side": side_by_side,
        "adopted": started["adopted"],
        **report,
        "elapsed_s": round(time.perf_counter() - start_s, 2),
    }


def note_sources(server: Server, bundle_path: Path, store_path: Path, version: int) -> None:
    """Write down where the deployed version came from, for whoever needs more of it than is served."""
    content = {"version": version, "bundle_path": str(bundle_path.resolve()), "store_path": str(store_path.resolve())}
    write_json(server.repository.beside(DEPLOYED_FILE), content)


def served_bundle(supervisor: Supervisor | None = None) -> Path:
    """Return the bundle folder of the version that was deployed last.

    Raises:
        UsageError: Nothing was deployed here.
    """
    path = (supervisor or Supervisor()).repository.beside(DEPLOYED_FILE)
    try:
        return Path(json.loads(path.read_text("utf-8"))["bundle_path"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError("Nothing was deployed from here.", got=str(error), fix="lorefuse run") from None


def status(server: Server | None = None) -> dict[str, Any]:
    """Say whether the deployed version answers, by asking it.

    Returns:
        running, url, version, serving and problem (None where all is well); models and the canary's report where the
        server runs.
    """
    server = server or Supervisor()
    version = server.repository.active
    facts: dict[str, Any] = {"running": not server.gone(), "url": server.url, "version": version}
    if not facts["running"]:
        return {**facts, "serving": False, "problem": "Triton is not running: make up"}
    if version is None:
        return {**facts, "serving": False, "problem": "nothing is deployed: lorefuse run"}
    try:
        facts["models"] = Control(server.url, server.admin_key).versions()
        trial = server.repository.trial
        # A router answers with either version: what stood there before is asked behind it.
        front = RECOMMEND if trial is None else STABLE
        facts |= verify_ready(server.url, server.repository, version, front=front)
    except LorefuseError as error:
        return {**facts, "serving": False, "problem": str(error)}
    return {**facts, "serving": True, "problem": None}


def up(supervisor: Supervisor | None = None) -> dict[str, Any]:
    """Start the server, or adopt the one that runs, and ask the deployed version for answers.

    Returns:
        What `status` says, and the server's pid.

    Raises:
        DeployError: It did not start, or the deployed version does not answer.
    """
    supervisor = supervisor or Supervisor()
    started = supervisor.start()
    facts = {**status(supervisor), "pid": started["pid"]}
    if facts["version"] is not None and not facts["serving"]:
        raise DeployError(
            f"Triton runs, but version {facts['version']} does not serve.",
            got=f"{facts['problem']}{supervisor.log_tail()}",
            fix="make down, then make up; or deploy again: lorefuse run",
        )
    return facts
