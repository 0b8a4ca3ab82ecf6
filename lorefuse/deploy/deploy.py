"""Bring a model version to serve; whatever goes wrong on the way, the version before goes on answering."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

from lorefuse.atomic import write_json
from lorefuse.deploy.canary import verify_ready
from lorefuse.deploy.control import Control
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.errors import DeployError, LorefuseError, UsageError
from lorefuse.export import repository as r
from lorefuse.export.bundle import Bundle
from lorefuse.export.config_pbtxt import CONFIG_FILE
from lorefuse.export.signature import RECOMMEND, ServingSignature

DEPLOYED_FILE = "deployed.json"
KEPT_VERSIONS = 3
"""Versions kept on disk for a quick return."""


def deploy(
    bundle_path: Path, store_path: Path, version: int, *, supervisor: Supervisor | None = None
) -> dict[str, Any]:
    """Write a version into the model repository, load it beside the one that answers, check it, then switch.

    Where the new version asks for the same tensors, both are loaded until the new one has passed its canary, and the
    switch is one reload of `recommend`. Where its tensors differ, it replaces the old one, which is brought back if
    the canary fails; the gap lasts as long as the load. A number that was deployed before with other content (a
    registry that was begun anew) is replaced in place. The version that already answers is only checked.

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
    start_s = time.perf_counter()
    supervisor = supervisor or Supervisor()
    repository_path = supervisor.repository_path
    signatures = Bundle.load(bundle_path).signatures()
    previous = r.active_version(repository_path)
    built = r.build_repository(bundle_path, store_path, repository_path, version)
    started = supervisor.start()
    control = Control(supervisor.url)
    if built["reused"] and previous == version:
        report = _verify_or_restart(supervisor, version)
        _note(supervisor, bundle_path, store_path, version)
        return _report(supervisor, version, previous, started, report, start_s, side_by_side=True)
    side_by_side = previous not in (None, version) and r.same_signature(signatures, repository_path)
    before = _read_configs(repository_path)
    try:
        report = _bring_up(control, signatures, repository_path, previous if side_by_side else None, version)
    except LorefuseError as error:
        _restore(control, repository_path, before, previous, version)
        still = f"version {previous} still answers" if previous not in (None, version) else "nothing is served"
        raise DeployError(f"Version {version} could not be brought to serve; {still}.", got=str(error)) from error
    _prune(repository_path, version)
    _note(supervisor, bundle_path, store_path, version)
    return _report(supervisor, version, previous, started, report, start_s, side_by_side=side_by_side)


def _bring_up(
    control: Control, signatures: ServingSignature, repository_path: Path, beside: int | None, version: int
) -> dict[str, Any]:
    versions = [version] if beside is None else [beside, version]
    r.write_configs(signatures, repository_path, versions)
    for name in r.PART_MODELS:
        control.load(name)
    verify_ready(control.url, repository_path, version, active=False)
    r.write_active(signatures, repository_path, version)
    control.load(RECOMMEND)
    report = verify_ready(control.url, repository_path, version)
    if beside is not None:
        r.write_configs(signatures, repository_path, [version])
        for name in r.PART_MODELS:
            control.load(name)
    return report


def _verify_or_restart(supervisor: Supervisor, version: int) -> dict[str, Any]:
    """Ask the deployed version; where it does not answer, a new server may: loading what is unchanged does nothing."""
    try:
        return verify_ready(supervisor.url, supervisor.repository_path, version)
    except DeployError:
        supervisor.stop()
        supervisor.start()
        return verify_ready(supervisor.url, supervisor.repository_path, version)


def _read_configs(repository_path: Path) -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in repository_path.glob(f"*/{CONFIG_FILE}")}


def _restore(
    control: Control, repository_path: Path, before: dict[Path, str], previous: int | None, version: int
) -> None:
    """Bring the configs and the loaded versions back to what they were."""
    if previous is None or previous == version:
        for path in repository_path.glob(f"*/{CONFIG_FILE}"):
            path.unlink()
            with contextlib.suppress(DeployError):
                control.unload(path.parent.name)
        r.remove_version(repository_path, version)
        return
    r.remove_version(repository_path, version)
    for path, text in before.items():
        path.write_text(text, "utf-8")
    for name in (*r.PART_MODELS, RECOMMEND):
        control.load(name)
    verify_ready(control.url, repository_path, previous)


def _prune(repository_path: Path, version: int) -> None:
    folder_path = repository_path / RECOMMEND
    there = sorted(int(path.name) for path in folder_path.iterdir() if re.fullmatch(r"\d+", path.name))
    for old in [number for number in there if number != version][: -(KEPT_VERSIONS - 1)]:
        r.remove_version(repository_path, old)


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


def _note(supervisor: Supervisor, bundle_path: Path, store_path: Path, version: int) -> None:
    content = {"version": version, "bundle_path": str(bundle_path.resolve()), "store_path": str(store_path.resolve())}
    write_json(supervisor.repository_path.parent / DEPLOYED_FILE, content)


def served_bundle(supervisor: Supervisor | None = None) -> Path:
    """Return the bundle folder of the version that was deployed last.

    Raises:
        UsageError: Nothing was deployed here.
    """
    path = (supervisor or Supervisor()).repository_path.parent / DEPLOYED_FILE
    try:
        return Path(json.loads(path.read_text("utf-8"))["bundle_path"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError("Nothing was deployed from here.", got=str(error), fix="lorefuse run") from None


def status(supervisor: Supervisor | None = None) -> dict[str, Any]:
    """Say whether the deployed version answers, by asking it.

    Returns:
        running, url, version, serving and problem (None where all is well); pid, models and the canary's report where
        the server runs.
    """
    supervisor = supervisor or Supervisor()
    process = supervisor.process()
    version = r.active_version(supervisor.repository_path)
    facts: dict[str, Any] = {"running": process is not None, "url": supervisor.url, "version": version}
    if process is None:
        return {**facts, "serving": False, "problem": "Triton is not running: make up"}
    facts["pid"] = process.pid
    if version is None:
        return {**facts, "serving": False, "problem": "nothing is deployed: lorefuse run"}
    try:
        facts["models"] = Control(supervisor.url).versions()
        facts |= verify_ready(supervisor.url, supervisor.repository_path, version)
    except LorefuseError as error:
        return {**facts, "serving": False, "problem": str(error)}
    return {**facts, "serving": True, "problem": None}


def up(supervisor: Supervisor | None = None) -> dict[str, Any]:
    """Start the server, or adopt the one that runs, and ask the deployed version for answers.

    Returns:
        What `status` says.

    Raises:
        DeployError: It did not start, or the deployed version does not answer.
    """
    supervisor = supervisor or Supervisor()
    supervisor.start()
    facts = status(supervisor)
    if facts["version"] is not None and not facts["serving"]:
        raise DeployError(
            f"Triton runs, but version {facts['version']} does not serve.",
            got=f"{facts['problem']}{supervisor.log_tail()}",
            fix="make down, then make up; or deploy again: lorefuse run",
        )
    return facts
