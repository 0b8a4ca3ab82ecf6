"""Profiles: named sets of stores, from ``profiles/<name>.yaml`` or ``pipelines/profiles/<name>.yaml``.

URLs and secrets stand in them as references to the environment.

A profile is chosen by ``lorefuse run --profile NAME`` or by `LOREFUSE_PROFILE`. What the environment says by itself
(`MLFLOW_TRACKING_URI`, `LOREFUSE_ONLINE_STORE_URL`, …) overrides the profile.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lorefuse.core.errors import ConfigError
from lorefuse.core.project import folder_of

PROFILE_VARIABLE = "LOREFUSE_PROFILE"
VARIABLES = {
    "tracking_uri": "MLFLOW_TRACKING_URI",
    "artifacts_uri": "LOREFUSE_ARTIFACTS_URI",
    "feast_registry_url": "LOREFUSE_FEAST_REGISTRY_URL",
    "online_store_url": "LOREFUSE_ONLINE_STORE_URL",
    "tuning_storage_url": "LOREFUSE_TUNING_STORAGE_URL",
}
"""Key of a profile → the environment variable that says the same."""
_KEYS = {*VARIABLES, "description", "requires"}
_REFERENCE = re.compile(r"\$\{(\w+)\}")


def profile_values(name: str, project_path: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a profile sets, with its references to the environment filled in.

    Args:
        name: Name of the profile, the YAML's name without its end.
        project_path: The user's project; a profile in its `profiles/` is taken before those that come with Lorefuse.
        environment: Where the references are looked up.

    Returns:
        Keys of `VARIABLES` → URL; a key that the profile leaves out is absent.

    Raises:
        ConfigError: There is no such profile, it holds an unknown key, a secret, or refers to a variable not set.
    """
    content = _read(name, project_path / "profiles", folder_of("pipelines", project_path) / "profiles")
    wanted = [key for key in VARIABLES if content.get(key) and not environment.get(VARIABLES[key])]
    named = {variable for key in wanted for variable in _REFERENCE.findall(content[key])}
    needed = sorted((named | set(content.get("requires", ()))) - {key for key, value in environment.items() if value})
    if needed:
        raise ConfigError(
            f"The profile {name} needs environment variables that are not set.",
            expected=", ".join(needed),
            fix="export them; what each holds: docs/stores.md",
        )
    return {key: _REFERENCE.sub(lambda match: environment[match[1]], content[key]) for key in wanted}


@functools.cache
def _read(name: str, *folder_paths: Path) -> dict[str, Any]:
    import yaml

    files = {file.stem: file for folder_path in reversed(folder_paths) for file in folder_path.glob("*.yaml")}
    if name not in files:
        raise ConfigError("There is no such profile.", expected=f"one of: {', '.join(sorted(files))}", got=name)
    path = files[name]
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"The profile {path} cannot be read.", got=str(error).replace("\n", " ")) from None
    if not isinstance(content, dict) or content.keys() - _KEYS:
        got = ", ".join(sorted(map(str, content.keys() - _KEYS))) if isinstance(content, dict) else str(content)
        raise ConfigError(f"{path} is not a profile.", expected=", ".join(sorted(_KEYS)), got=got)
    for key in VARIABLES.keys() & content.keys():
        if not isinstance(content[key], str):
            raise ConfigError(f"{key} of {path} is not a text.", got=repr(content[key]))
        if urlsplit(_REFERENCE.sub("", content[key])).password:
            raise ConfigError(
                f"{key} of {path} holds a secret.", expected="a reference such as ${LOREFUSE_POSTGRES_URL}"
            )
    return content


def mask(url: str) -> str:
    """Return a URL fit for a message: without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
