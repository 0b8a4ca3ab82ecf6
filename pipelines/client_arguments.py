"""Arguments of a compiled pipeline, checked against its inputs before anything is sent (kfp's client does not)."""

from __future__ import annotations

import copy
import difflib
import json
import os
from pathlib import Path
from typing import Any

import yaml

from lorefuse.config import PipelineConfig, parse_config
from lorefuse.config.cluster import ClusterConfig
from lorefuse.core.errors import UsageError
from lorefuse.core.profiles import PROFILE_VARIABLE
from lorefuse.steps import dump_config

Inputs = dict[str, dict[str, Any]]
_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def read_inputs(path: Path) -> tuple[str, Inputs]:
    """Return the name and the input definitions of a compiled pipeline."""
    content = next(yaml.load_all(path.read_text("utf-8"), _Loader))
    definitions = content["root"].get("inputDefinitions", {}).get("parameters", {})
    return str(content["pipelineInfo"]["name"]), definitions


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C loader reads the 80 kB of a pipeline ten times as fast."""


def make_arguments(inputs: Inputs, config: PipelineConfig, params: tuple[str, ...]) -> dict[str, Any]:
    """Return what the pipeline is run with: the preset's values, and `params` over them.

    Args:
        inputs: Input definitions of the pipeline.
        config: Fills the inputs `config`, `strategy` and `second_strategy` where the pipeline has them. `serve` becomes
            false: a step's pod is no place for a server, and on a cluster the reconciler follows the champion.
        params: ``name=value``; ``config.training.max_epochs=3`` reaches into a structure.

    Raises:
        UsageError: A name, type or value that the pipeline does not take, or one that is missing.
        ConfigError: The changed configuration does not validate.
    """
    preset = {
        "config": dump_config(config),
        "strategy": config.split.strategy,
        "second_strategy": config.second_strategy,
        "serve": False,
    }
    values: dict[str, Any] = {name: value for name, value in preset.items() if name in inputs}
    for text in params:
        _set(values, inputs, text)
    if "config" in values:
        values["config"] = dump_config(parse_config(values["config"], origin="The configuration with --param"))
    check_arguments(inputs, values)
    return values


def check_arguments(inputs: Inputs, values: dict[str, Any]) -> None:
    """Hold values to the pipeline's input definitions.

    Raises:
        UsageError: An unknown name, a missing one, or a value of another type; all of them listed.
    """
    problems = [f"unknown: {name}{_meant(name, inputs)}" for name in values if name not in inputs]
    problems += [
        f"missing: {name}" for name, entry in inputs.items() if not entry.get("isOptional") and name not in values
    ]
    for name, value in values.items():
        kind = inputs.get(name, {}).get("parameterType")
        if kind in _TYPES and not _is_a(value, kind):
            problems.append(f"{name}: expected {kind}, got {value!r} ({type(value).__name__})")
    if problems:
        known = ", ".join(f"{name} ({entry.get('parameterType')})" for name, entry in sorted(inputs.items()))
        raise UsageError("The pipeline does not take these arguments.", expected=known, got="; ".join(problems))


def check_paths(config: PipelineConfig, cluster: ClusterConfig) -> None:
    """Refuse files of this machine, which no pod will find.

    Raises:
        UsageError: A data path that is neither an address nor below the shared volume's mount.
    """
    mount_path = Path(cluster.storage.mount_path)
    source = config.data.source.model_dump(mode="json", exclude_none=True)
    here = [
        f"{name}: {value}"
        for name, value in source.items()
        if name.endswith("_path") and "://" not in str(value) and not Path(str(value)).is_relative_to(mount_path)
    ]
    if here:
        where = mount_path if cluster.storage.pvc else f"{mount_path} (set storage.pvc in the cluster file)"
        raise UsageError(
            "The preset names files of this machine.",
            expected=f"paths below the volume that the steps share: {where}",
            got="; ".join(here),
            fix="copy the files to the volume and name them by their path there",
        )


def check_places(cluster: ClusterConfig) -> None:
    """Refuse a run that could only wait for an image or lose what it registers.

    Raises:
        UsageError: Nobody named an image, or the steps have no registry that outlives their pods.
    """
    if cluster.image is None and not os.environ.get("LOREFUSE_IMAGE"):
        raise UsageError(
            "No image is named for the steps.",
            fix="set `image` in the cluster file, or LOREFUSE_IMAGE (docs/cluster.md)",
        )
    variables = {*cluster.env, *(name for secret in cluster.secrets for name in secret.keys.values())}
    if not variables & {"MLFLOW_TRACKING_URI", PROFILE_VARIABLE} and cluster.storage.pvc is None:
        raise UsageError(
            "What the run registers would vanish with its pods.",
            expected="MLFLOW_TRACKING_URI under `env` or `secrets` of the cluster file, or a claim under `storage.pvc`",
            fix="start from pipelines/clusters/cpu.yaml",
        )


def _set(values: dict[str, Any], inputs: Inputs, text: str) -> None:
    name, found, value = text.partition("=")
    if not found or not name:
        raise UsageError("A parameter is no pair.", expected="--param name=value", got=text)
    first, *keys = name.split(".")
    if first not in inputs:
        known = ", ".join(sorted(inputs))
        raise UsageError(f"The pipeline has no parameter {first}.", expected=known + _meant(first, inputs), got=text)
    kind = str(inputs[first].get("parameterType"))
    if not keys:
        values[first] = _parse(first, kind, value)
        return
    if kind != "STRUCT":
        raise UsageError(f"Parameter {first} has no parts.", expected=f"{first}=<{kind}>", got=text)
    section = values[first] = copy.deepcopy(values.get(first, {}))
    for key in keys[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise UsageError(f"{key} in {name} is no section.", got=text)
    section[keys[-1]] = yaml.safe_load(value)


def _parse(name: str, kind: str, text: str) -> Any:
    """Return the text as the value of a parameter type."""
    if kind == "STRING":
        return text
    try:
        value = json.loads(text.lower() if kind == "BOOLEAN" else text)
    except ValueError:
        value = text
    if kind == "NUMBER_DOUBLE" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not _is_a(value, kind):
        raise UsageError(f"Parameter {name} does not fit.", expected=kind, got=text)
    return value


def _is_a(value: Any, kind: str) -> bool:
    allowed = _TYPES.get(kind, (object,))
    return isinstance(value, allowed) and (kind == "BOOLEAN" or not isinstance(value, bool))


def _meant(name: str, inputs: Inputs) -> str:
    close = difflib.get_close_matches(name, inputs, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
