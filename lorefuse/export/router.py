"""The router that takes the name `recommend` while a new version is on trial.

::

    recommend          python router, in the version folder of the version that answers now
    recommend_stable   front of that version
    recommend_canary   front of the new one
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from lorefuse.core.settings import settings
from lorefuse.export.config_pbtxt import CONFIG_FILE, GPU_CONFIG_FILE, model_config, read_config, write_config
from lorefuse.export.served import signatures_of
from lorefuse.export.signature import RECOMMEND

STABLE, CANARY = f"{RECOMMEND}_stable", f"{RECOMMEND}_canary"
NUM_INSTANCES = 4
"""Requests that the router carries at a time: one waits in it for as long as a front takes."""
_TEMPLATE, _MODEL_FILE = "model.py", "router.py"
"""Under a name of its own the router never meets the code that a front may have in the same folder."""


@dataclass(frozen=True)
class Trial:
    """Who is tried against whom.

    Attributes:
        stable: Version that answered before.
        canary: Version on trial.
        share: Share of the users that the new version answers; 0 in shadow mode.
        shadow_path: File for the comparisons, in shadow mode alone.
    """

    stable: int
    canary: int
    share: float = 0.0
    shadow_path: Path | None = None


def write_router(repository_path: Path, trial: Trial) -> None:
    """Write the router over `recommend`; it takes over once Triton loads `recommend`.

    Raises:
        UsageError: The package is not whole.
    """
    template_path = settings().folder("serving") / "model_repository" / "router" / "1" / _TEMPLATE
    folder_path = repository_path / RECOMMEND
    version_path = folder_path / str(trial.stable)
    version_path.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template_path, version_path / _MODEL_FILE)
    (version_path / "__pycache__").touch()  # keeps bytecode out, as in every Python model's folder
    config = model_config(signatures_of(repository_path, trial.stable).recommend, [trial.stable])
    config.instance_group[0].count = NUM_INSTANCES
    config.default_model_filename = _MODEL_FILE
    parameters = {
        "stable_model": STABLE,
        "canary_model": CANARY,
        "stable_version": str(trial.stable),
        "canary_version": str(trial.canary),
        "share": repr(trial.share),
        **({} if trial.shadow_path is None else {"shadow_path": str(trial.shadow_path)}),
    }
    for name, text in parameters.items():
        config.parameters[name].string_value = text
    write_config(folder_path / CONFIG_FILE, config)
    # Without one of its own for GPUs the router answers there as well.
    (folder_path / GPU_CONFIG_FILE).unlink(missing_ok=True)


def read_trial(repository_path: Path) -> Trial | None:
    """Return the trial that `recommend` is set up for; None where it is an ordinary front, or not there."""
    path = repository_path / RECOMMEND / CONFIG_FILE
    if not path.is_file():
        return None
    parameters = {name: entry.string_value for name, entry in read_config(path).parameters.items()}
    if "canary_version" not in parameters:
        return None
    shadow = parameters.get("shadow_path")
    return Trial(
        int(parameters["stable_version"]),
        int(parameters["canary_version"]),
        float(parameters["share"]),
        None if shadow is None else Path(shadow),
    )


def remove_router(repository_path: Path) -> None:
    """Remove the router's code; call it once `recommend` is an ordinary front again."""
    for path in (repository_path / RECOMMEND).glob(f"*/{_MODEL_FILE}"):
        path.unlink()
