"""Config → ranker, and rankers on disk: safetensors weights with the JSON that rebuilds the module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lorefuse.config import ModelConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.models.dcn_v2 import DCNV2
from lorefuse.models.deepfm import DeepFM
from lorefuse.models.din import DIN
from lorefuse.models.finalmlp import FinalMLP
from lorefuse.models.linear import FactorizationMachine, LogisticRegression
from lorefuse.models.multi_task import MultiTask
from lorefuse.models.ranker import Ranker
from lorefuse.models.wide_deep import WideDeep
from lorefuse.training_set.spec import FeatureSpec

WEIGHTS_FILE, MODEL_FILE = "model.safetensors", "model.json"
FAMILIES: dict[str, Callable[..., Ranker]] = {
    "logistic_regression": LogisticRegression,
    "fm": FactorizationMachine,
    "wide_deep": WideDeep,
    "deepfm": DeepFM,
    "dcn_v2": DCNV2,
    "finalmlp": FinalMLP,
    "din": DIN,
    "multi_task": MultiTask,
}
"""`model.family` → class; a new family is one file, one line here and one config."""


def build_ranker(config: ModelConfig, spec: FeatureSpec, *, seed: int = 0) -> Ranker:
    """Return an untrained ranker of the configured family.

    Args:
        config: Family and its hyper-parameters.
        spec: Names and widths of the inputs.
        seed: Seed of the initial weights; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(config.family, _keywords(config), spec)


def save_ranker(ranker: Ranker, config: ModelConfig, folder_path: Path) -> None:
    """Write `model.safetensors` and `model.json` into a folder."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in ranker.state_dict().items()}
    save_file(state, str(folder_path / WEIGHTS_FILE))
    content = {
        "family": config.family,
        "keywords": _keywords(config),
        "spec": ranker.spec.model_dump(mode="json"),
    }
    write_json(folder_path / MODEL_FILE, content)


def load_ranker(folder_path: Path) -> Ranker:
    """Read a ranker, in evaluation mode.

    Raises:
        ArtifactError: A file is missing or truncated, or the weights do not fit the module.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = json.loads((folder_path / MODEL_FILE).read_text("utf-8"))
        ranker = _build(content["family"], content["keywords"], FeatureSpec.model_validate(content["spec"]))
        ranker.load_state_dict(load_file(str(folder_path / WEIGHTS_FILE)))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder_path} holds no complete ranker.",
            expected=f"{MODEL_FILE} and {WEIGHTS_FILE}",
            got=str(error),
        ) from None
    return ranker.eval()


def untrained_like(folder_path: Path, *, seed: int) -> tuple[Ranker, ModelConfig]:
    """Return an untrained ranker of a saved one's family, hyper-parameters and inputs, and its configuration.

    Raises:
        ArtifactError: `model.json` is missing or truncated.
    """
    from pydantic import TypeAdapter

    try:
        content = json.loads((folder_path / MODEL_FILE).read_text("utf-8"))
        config: ModelConfig = TypeAdapter(ModelConfig).validate_python(
            {"family": content["family"], **content["keywords"]}
        )
        spec = FeatureSpec.model_validate(content["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder_path} holds no complete ranker.", expected=MODEL_FILE, got=str(error)) from None
    return build_ranker(config, spec, seed=seed), config


def _keywords(config: ModelConfig) -> dict[str, Any]:
    # The length of the history is the spec's, which a saved ranker carries.
    return config.model_dump(exclude={"family", "history_length"})


def _build(family: str, keywords: dict[str, Any], spec: FeatureSpec) -> Ranker:
    if family not in FAMILIES:
        raise ArtifactError("The model's family is unknown.", expected=str(sorted(FAMILIES)), got=family)
    return FAMILIES[family](spec, **keywords)
