"""YAML or a plain dict → `PipelineConfig`, with every mistake named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lorefuse.config.pipeline import PipelineConfig
from lorefuse.errors import ConfigError


def parse_config(content: dict[str, Any], *, origin: str = "the configuration") -> PipelineConfig:
    """Validate a plain dict, as a YAML file or a pipeline parameter holds it.

    Args:
        content: The nested dict. Floats with no fraction are accepted for integers (kfp makes them).
        origin: Named in the error.

    Raises:
        ConfigError: An unknown key, a wrong type or a value out of range; all of them listed.
    """
    try:
        return PipelineConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{origin} cannot be used.\n" + _explain(error)) from None


def load_config(path: Path) -> PipelineConfig:
    """Read a YAML preset; relative data paths count from the preset's folder.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, or does not validate.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no configuration {path}.",
            fix="name a YAML file, e.g. pipelines/configs/movielens_100k.yaml",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} could not be read.", expected="a YAML file in UTF-8", got=str(error)) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} could not be used.", expected="a mapping of sections", got=type(content).__name__)
    return parse_config(_absolute_paths(content, path.resolve().parent), origin=str(path))


def _absolute_paths(content: dict[str, Any], folder_path: Path) -> dict[str, Any]:
    data = content.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, dict):
        return content
    fixed = {
        key: str(folder_path / value) if key.endswith("_path") and isinstance(value, str) else value
        for key, value in source.items()
    }
    return {**content, "data": {**content["data"], "source": fixed}}


def _path(location: tuple[int | str, ...]) -> str:
    """Return the keys as they stand in the file; pydantic puts the family's name between `model` and its key."""
    keys = list(location)
    if len(keys) > 2 and keys[0] == "model":
        del keys[1]
    return ".".join(str(key) for key in keys) or "(top level)"


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = _path(item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key; fix: remove it or correct its name")
        else:
            lines.append(f"  {where}: expected: {item['msg']}; got: {item.get('input')!r}")
    return "\n".join(lines)
