"""Served versions without a person: their folders change beside the running server, which then loads them anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lorefuse.core.atomic import write_json
from lorefuse.core.settings import settings
from lorefuse.deploy.control import Control
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.erasure.person import Person
from lorefuse.erasure.places import search
from lorefuse.erasure.units import by_unit, erase_unit
from lorefuse.export.signature import ANSWER, DIRECT, FEATURES
from lorefuse.export.version_files import ANSWER_FILE


def erase_served(person: Person, renamed: Mapping[str, tuple[str, str]]) -> list[Path]:
    """Remove a person from every version of the home's model repository; return the folders that changed.

    A version answers from its old folder until the server has loaded the new one: no request is lost.

    Args:
        person: Whom.
        renamed: Old digest of a bundle → the new one, and that of its store: who deploys it again finds it unchanged.

    Raises:
        DeployError: The server does not load what has changed; it goes on with what it holds. Run it again.
    """
    supervisor = Supervisor()
    repository = supervisor.repository
    if not repository.path.is_dir():
        return []
    with repository.lock():
        serve_path = repository.path.parent
        units = by_unit(search([serve_path], person, settings().home_path))
        for unit_path, places in units.items():
            erase_unit(unit_path, places, person)
        _rename_bundles(serve_path, renamed)
        if not supervisor.gone():
            reload_users(supervisor)
        return list(units)


def reload_users(supervisor: Supervisor) -> None:
    """Let a running server load the parts that know users."""
    control = Control(supervisor.url, supervisor.admin_key)
    for name in supervisor.repository.configured():
        if name in (FEATURES, ANSWER, DIRECT):
            control.load(name)


def _rename_bundles(serve_path: Path, renamed: Mapping[str, tuple[str, str]]) -> None:
    for path in serve_path.rglob(ANSWER_FILE):
        content = json.loads(path.read_text("utf-8"))
        if content.get("bundle_digest") in renamed:
            bundle, store = renamed[content["bundle_digest"]]
            write_json(path, {**content, "bundle_digest": bundle, "store_digest": store or content["store_digest"]})
