"""What roll-outs do to a model repository and its server besides loading a version."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from lorefuse.core.errors import DeployError
from lorefuse.deploy.control import Control
from lorefuse.deploy.remote import Server
from lorefuse.deploy.verify import verify_ready
from lorefuse.export.signature import CANARY, EMBED, RANKER, STABLE


def load_parts(server: Server, versions: Sequence[int], like: int) -> None:
    """Write the configs of the parts and load them; see `ModelRepository.configure_parts`."""
    control, repository = Control(server.url, server.admin_key), server.repository
    before = repository.configured()
    repository.configure_parts(versions, like)
    parts = repository.configured()
    for name in parts:
        control.load(name)
    for name in set(before) - set(parts):
        control.unload(name)


def restore_parts(server: Server) -> None:
    """Serve the parts of the version that answers again, where a roll-out was cut short while another's were loaded."""
    repository = server.repository
    active, loaded = repository.active, repository.configured_versions(RANKER)
    if active is not None and loaded and active not in loaded:
        load_parts(server, sorted({*repository.loaded_versions, active}), active)


def load_companions(server: Server, version: int) -> None:
    """Load what goes with the front of a version, and unload what another version had and this one has not."""
    control, names = Control(server.url, server.admin_key), server.repository.companions(version)
    for name in names:
        control.load(name)
    if EMBED not in names and EMBED in control.versions():
        control.unload(EMBED)


def drop_trial(server: Server) -> None:
    """Remove the fronts of a trial; `recommend` must be an ordinary front by now."""
    control = Control(server.url, server.admin_key)
    for name in (STABLE, CANARY):
        if (server.repository.path / name).is_dir():
            with contextlib.suppress(DeployError):  # it may never have been loaded
                control.unload(name)
    server.repository.remove_fronts()
    server.repository.remove_router()


def force(server: Server, version: int) -> None:
    """Point every config at a version that is on disk, restart, and check its answers against the references.

    For a server whose active version is broken: nothing of it can be asked to make way.

    Raises:
        ArtifactError: The version's folder is incomplete.
        DeployError: That version does not answer either.
    """
    server.repository.configure_parts([version], version)
    server.repository.configure_front(version)
    server.repository.remove_fronts()
    server.restart()
    verify_ready(server.url, server.repository, version)
