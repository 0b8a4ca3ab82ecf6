"""The choice of a finished race, kept by the preset's name: what every command but `lorefuse run` goes by.

`lorefuse run` races, or finds the finished race of the same data again. It writes `<home>/auto/<name>.yaml`, a whole
preset without a race, and beside it the race itself. The other commands take that preset in place of one that leaves
the choice open; only a changed preset is no longer the one that was raced.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import yaml

from lorefuse.auto.choice_file import asked_digest, read_choice
from lorefuse.config import PipelineConfig, load_config, parse_config
from lorefuse.core.atomic import atomic_file, write_json
from lorefuse.core.errors import ConfigError
from lorefuse.core.settings import settings

_log = logging.getLogger(__name__)


def pinned_path(name: str) -> Path:
    """Return where the choice for a preset's name stands."""
    return settings().home_path / "auto" / f"{name}.yaml"


def pin(config: PipelineConfig, choice_path: Path) -> PipelineConfig:
    """Write the choice where the other commands look, and return it.

    Args:
        config: The preset that was raced.
        choice_path: Folder with `choice.json`.

    Raises:
        ArtifactError: It is cut short.
    """
    race = read_choice(choice_path)
    assert race is not None
    path = pinned_path(config.name)
    chosen = parse_config(race["config"], origin=str(choice_path))
    head = f"# Chosen by a race: {race['chosen']}, {race['why']}. The race: {path.with_suffix('.json').name}\n"
    with atomic_file(path) as draft_path:
        draft_path.write_text(head + yaml.safe_dump(chosen.as_preset(), sort_keys=False), "utf-8")
    write_json(path.with_suffix(".json"), race)
    return chosen


def load_chosen(path: Path, *, required: bool = False) -> PipelineConfig:
    """Read a preset; one that leaves the choice to a race is read as that race chose.

    Args:
        path: YAML file.
        required: Whether a preset that was not raced yet is an error; else the defaults stand in, and a warning says
            so.

    Raises:
        ConfigError: The preset cannot be used, or no race has chosen and it is required.
    """
    return as_chosen(load_config(path), required=required)


def as_chosen(config: PipelineConfig, *, required: bool = False) -> PipelineConfig:
    """Return a configuration without a race: as it is, as its race chose, or with the defaults; see `load_chosen`."""
    if config.auto is None:
        return config
    race = _read_race(pinned_path(config.name).with_suffix(".json"))
    if race is not None and race["asked"] == asked_digest(config):
        return parse_config(race["config"], origin=str(pinned_path(config.name)))
    if required:
        raise ConfigError(
            "The preset leaves its model to a race, and none has chosen yet.",
            expected=f"{pinned_path(config.name)}, made for this very preset",
            got="another preset's" if race is not None else "no such file",
            fix="lorefuse run --config … first, or name a model in the preset: `model: {family: deepfm}`",
        )
    _log.warning("no race has chosen for this preset yet (lorefuse run does): going by the defaults")
    return config.model_copy(update={"auto": None})


def _read_race(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"asked", "config"} <= content.keys() else None
