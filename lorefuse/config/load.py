"""YAML or a plain dict → configuration, with every mistake named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lorefuse.config.auto import OPEN_SECTIONS
from lorefuse.config.deployment import DeploymentConfig
from lorefuse.config.pipeline import PipelineConfig
from lorefuse.core.errors import ConfigError


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

    A preset that names neither `model` nor `auto` leaves the choice to a race: it has the section `auto`.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, or does not validate.
    """
    content = _read_mapping(path, "pipelines/configs/movielens_100k.yaml")
    if "privacy" in content and content["privacy"] is None:
        content = {**content, "privacy": {}}  # a section that is named asks for its defaults
    return parse_config(_with_auto(_absolute_paths(content, path.resolve().parent)), origin=str(path))


def load_deployment(path: Path | None) -> DeploymentConfig:
    """Read the reconciler's YAML file; without one, the defaults.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, or does not validate.
    """
    if path is None:
        return DeploymentConfig()
    content = _read_mapping(path, "pipelines/deployment.yaml")
    try:
        config = DeploymentConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path} cannot be used.\n" + _explain(error)) from None
    folder_path = path.resolve().parent
    replicas = tuple(
        replica.model_copy(update={"repository_path": folder_path / replica.repository_path.expanduser()})
        for replica in config.replicas
    )
    signed_by = config.signed_by and folder_path / config.signed_by.expanduser()
    return config.model_copy(update={"replicas": replicas, "signed_by": signed_by})


def _read_mapping(path: Path, example: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no configuration {path}.",
            fix=f"name a YAML file (--config {example}), or begin a project: lorefuse init my-shop",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} could not be read.", expected="a YAML file in UTF-8", got=str(error)) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} could not be used.", expected="a mapping of sections", got=type(content).__name__)
    return content


def _with_auto(content: dict[str, Any]) -> dict[str, Any]:
    """Add the race where the file leaves the model open, and to a race what the file has set."""
    auto = content.get("auto", None if "model" in content else {})
    if auto is None and "auto" not in content:
        return content
    if not isinstance(auto, dict) or not isinstance(auto.get("fixed", []), list):
        return content  # null, or a mistake that validation names
    given = {name: content[name] for name in OPEN_SECTIONS if isinstance(content.get(name), dict)}
    fixed = {f"{name}.{key}" for name, section in given.items() for key in section}
    return {**content, "auto": {**auto, "fixed": sorted({*map(str, auto.get("fixed", [])), *fixed})}}


def _absolute_paths(content: dict[str, Any], folder_path: Path) -> dict[str, Any]:
    tuning = content.get("tuning")
    if isinstance(tuning, dict) and isinstance(tuning.get("studies_path"), str):
        tuning = {**tuning, "studies_path": str(folder_path / Path(tuning["studies_path"]).expanduser())}
        content = {**content, "tuning": tuning}
    embedding = content.get("embedding")
    encoder = embedding.get("encoder") if isinstance(embedding, dict) else None
    if isinstance(embedding, dict) and isinstance(encoder, str) and encoder.startswith(("./", "../", "~")):
        content = {**content, "embedding": {**embedding, "encoder": str(folder_path / Path(encoder).expanduser())}}
    knowledge = content.get("knowledge")
    vectors = knowledge.get("item_vectors") if isinstance(knowledge, dict) else None
    if isinstance(knowledge, dict) and isinstance(vectors, dict):
        own = {name: _own_vectors(entry, folder_path) for name, entry in vectors.items()}
        content = {**content, "knowledge": {**knowledge, "item_vectors": own}}
    data = content.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, dict):
        return content
    fixed = {
        key: str(folder_path / value) if key.endswith("_path") and isinstance(value, str) else value
        for key, value in source.items()
    }
    return {**content, "data": {**content["data"], "source": fixed}}


def _own_vectors(entry: Any, folder_path: Path) -> Any:
    given = {"path": entry} if isinstance(entry, str) else entry
    if not isinstance(given, dict) or not isinstance(given.get("path"), str):
        return entry  # a mistake that validation names
    return {**given, "path": str(folder_path / Path(given["path"]).expanduser())}


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
