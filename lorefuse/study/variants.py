"""Variants of a configuration: every combination of what `--vary` names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lorefuse.config import PipelineConfig, parse_config
from lorefuse.core.errors import UsageError

BASE = "as configured"


@dataclass(frozen=True)
class Variant:
    """One configuration of a study.

    Attributes:
        name: What it varies, e.g. ``model.family=dcn_v2 model.fusion=gated``.
        config: The whole configuration.
    """

    name: str
    config: PipelineConfig


def make_variants(config: PipelineConfig, vary: Sequence[str]) -> list[Variant]:
    """Return all combinations; the configuration itself where nothing is varied.

    Args:
        config: The configuration.
        vary: Entries such as ``model.fusion=residual,concat``: a path of keys, and values separated by commas.

    Raises:
        UsageError: An entry is not of that form.
        ConfigError: A combination is not a valid configuration.

    Where `model.family` is varied, settings of the configured family that another one lacks are left out there.
    """
    axes = [_axis(entry) for entry in vary]
    if not axes:
        return [Variant(BASE, config)]
    variants = []
    for values in itertools.product(*(axis[1] for axis in axes)):
        chosen = dict(zip((axis[0] for axis in axes), values, strict=True))
        name = " ".join(f"{key}={value}" for key, value in chosen.items())
        variants.append(Variant(name, parse_config(_changed(config, chosen), origin=f"The variant {name}")))
    return variants


def _axis(entry: str) -> tuple[str, list[Any]]:
    key, sign, values = entry.partition("=")
    if not sign or not key.strip() or not all(value.strip() for value in values.split(",")):
        raise UsageError(
            f"--vary {entry} cannot be read.", expected="key=value,value, e.g. model.fusion=residual,concat", got=entry
        )
    return key.strip(), [yaml.safe_load(value) for value in values.split(",")]


def _changed(config: PipelineConfig, chosen: dict[str, Any]) -> dict[str, Any]:
    content = config.model_dump(mode="json", exclude_none=True)
    family = chosen.get("model.family", content["model"]["family"])
    if family != content["model"]["family"]:
        known = parse_config({"model": {"family": family}}).model_dump(mode="json")["model"]
        kept = {key: value for key, value in content["model"].items() if key in known}
        content["model"] = {**kept, "family": family}
    for path, value in chosen.items():
        *sections, key = path.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UsageError(f"--vary {path} does not name a setting.", got=f"{section} is no section")
        place[key] = value
    return content
