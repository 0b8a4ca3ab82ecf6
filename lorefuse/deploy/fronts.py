"""What roll-outs do to a model repository and its server besides loading a version."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from lorefuse.deploy.canary import verify_ready
from lorefuse.deploy.control import Control
from lorefuse.deploy.remote import Server
from lorefuse.errors import DeployError
from lorefuse.export import repository as r
from lorefuse.export.config_pbtxt import CONFIG_FILE, GPU_CONFIG_FILE, read_config, write_config
from lorefuse.export.router import CANARY, STABLE, remove_router
from lorefuse.export.signature import CATALOGUE_RANKER, EMBED, RECOMMEND, RETRIEVE

_OPTIONAL = (CATALOGUE_RANKER, RETRIEVE, EMBED)
"""Models that not every version has."""
KEPT_VERSIONS = 3
"""Versions kept on disk for a quick return."""


def loaded_versions(repository_path: Path) -> list[int]:
    """Return the versions that the parts' configs name, the active one among them."""
    path = repository_path / r.PART_MODELS[0] / CONFIG_FILE
    return [int(number) for number in read_config(path).version_policy.specific.versions] if path.is_file() else []


def load_companions(server: Server, version: int) -> None:
    """Load what goes with the front of a version, and unload what another version had and this one has not."""
    control, names = Control(server.url), r.companions(server.repository_path, version)
    for name in names:
        control.load(name)
    if EMBED not in names and EMBED in control.versions():
        control.unload(EMBED)


def drop_trial(server: Server) -> None:
    """Remove the fronts of a trial; `recommend` must be an ordinary front by now."""
    control = Control(server.url)
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
        DeployError: That version does not answer either.
    """
    for name in (*r.PART_MODELS, RECOMMEND, EMBED):
        path = server.repository_path / name / CONFIG_FILE
        if name in _OPTIONAL and not (path.parent / str(version)).is_dir():
            path.unlink(missing_ok=True)
            continue
        spare_path = path.with_name(r.SPARE_FILE)
        if not path.is_file() and spare_path.is_file():
            spare_path.replace(path)
        if name == EMBED and not path.is_file():
            continue
        gpu_path = server.repository_path / name / GPU_CONFIG_FILE
        for config_path in (path, *([gpu_path] if gpu_path.is_file() else [])):
            config = read_config(config_path)
            del config.version_policy.specific.versions[:]
            config.version_policy.specific.versions.append(version)
            for step in config.ensemble_scheduling.step:
                step.model_version = version
            write_config(config_path, config)
    for name in (STABLE, CANARY):
        shutil.rmtree(server.repository_path / name, ignore_errors=True)
    server.restart()
    verify_ready(server.url, server.repository_path, version)


def prune(repository_path: Path, loaded: list[int]) -> None:
    """Remove versions from disk: those that are loaded stay, and the newest others up to `KEPT_VERSIONS` in all."""
    folder_path = repository_path / RECOMMEND
    there = sorted(int(path.name) for path in folder_path.iterdir() if re.fullmatch(r"\d+", path.name))
    spare = [number for number in there if number not in loaded]
    for old in spare[: max(0, len(spare) - (KEPT_VERSIONS - len(loaded)))]:
        r.remove_version(repository_path, old)
