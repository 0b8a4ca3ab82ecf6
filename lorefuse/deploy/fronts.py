"""What roll-outs do to a model repository and its server besides loading a version."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from lorefuse.core.errors import DeployError
from lorefuse.deploy.control import Control
from lorefuse.deploy.remote import Server
from lorefuse.deploy.verify import verify_ready
from lorefuse.export.config_pbtxt import CONFIG_FILE, read_config
from lorefuse.export.replaced import forget
from lorefuse.export.router import CANARY, STABLE, remove_router
from lorefuse.export.served import (
    active_version,
    companions,
    configured_parts,
    loaded_versions,
    remove_version,
    write_active,
    write_configs,
)
from lorefuse.export.signature import EMBED, RANKER, RECOMMEND

KEPT_VERSIONS = 3
"""Versions kept on disk for a quick return."""


def load_parts(server: Server, versions: Sequence[int], like: int) -> None:
    """Write the configs of the parts and load them; see `served.write_configs`."""
    control, path = Control(server.url, server.admin_key), server.repository_path
    before = configured_parts(path)
    write_configs(path, versions, like)
    parts = configured_parts(path)
    for name in parts:
        control.load(name)
    for name in set(before) - set(parts):
        control.unload(name)


def restore_parts(server: Server) -> None:
    """Serve the parts of the version that answers again, where a roll-out was cut short while another's were loaded."""
    path = server.repository_path
    active, config_path = active_version(path), path / RANKER / CONFIG_FILE
    if active is None or not config_path.is_file():
        return
    if active not in read_config(config_path).version_policy.specific.versions:
        load_parts(server, sorted({*loaded_versions(path), active}), active)


def load_companions(server: Server, version: int) -> None:
    """Load what goes with the front of a version, and unload what another version had and this one has not."""
    control, names = Control(server.url, server.admin_key), companions(server.repository_path, version)
    for name in names:
        control.load(name)
    if EMBED not in names and EMBED in control.versions():
        control.unload(EMBED)


def drop_trial(server: Server) -> None:
    """Remove the fronts of a trial; `recommend` must be an ordinary front by now."""
    control = Control(server.url, server.admin_key)
    for name in (STABLE, CANARY):
        folder_path = server.repository_path / name
        if folder_path.is_dir():
            with contextlib.suppress(DeployError):  # it may never have been loaded
                control.unload(name)
            shutil.rmtree(folder_path, ignore_errors=True)
    remove_router(server.repository_path)


def force(server: Server, version: int) -> None:
    """Point every config at a version that is on disk, restart, and hold its answers to the references.

    For a server whose active version is broken: nothing of it can be asked to make way.

    Raises:
        ArtifactError: The version's folder is not whole.
        DeployError: That version does not answer either.
    """
    write_configs(server.repository_path, [version], version)
    write_active(server.repository_path, version)
    for name in (STABLE, CANARY):
        shutil.rmtree(server.repository_path / name, ignore_errors=True)
    server.restart()
    verify_ready(server.url, server.repository_path, version)


def prune(repository_path: Path, loaded: list[int]) -> None:
    """Remove versions from disk: those that are loaded stay, and the newest others up to `KEPT_VERSIONS` in all.

    What a number held before it was replaced goes too: this is called once what answers has proved fit.
    """
    forget(repository_path)
    folder_path = repository_path / RECOMMEND
    there = sorted(int(path.name) for path in folder_path.iterdir() if re.fullmatch(r"\d+", path.name))
    spare = [number for number in there if number not in loaded]
    for old in spare[: max(0, len(spare) - (KEPT_VERSIONS - len(loaded)))]:
        remove_version(repository_path, old)
