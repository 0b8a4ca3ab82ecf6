"""Config → ranker, and rankers on disk: safetensors weights with the JSON that rebuilds the module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from lorefuse.atomic import write_json
from lorefuse.config import DeepFMConfig, ModelConfig
from lorefuse.contract import Split
from lorefuse.errors import ArtifactError
from lorefuse.features.spec import FeatureSpec
from lorefuse.features.training_set import TrainingSet
from lorefuse.models.deepfm import DeepFM
from lorefuse.models.ranker import Ranker, as_inputs

WEIGHTS_FILE, MODEL_FILE = "model.safetensors", "model.json"


def build_ranker(config: ModelConfig, spec: FeatureSpec, *, seed: int = 0) -> Ranker:
    """Return an untrained ranker of the configured family.

    Args:
        config: Family and its hyper-parameters.
        spec: Names and widths of the inputs.
        seed: Seed of the initial weights; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build("deepfm", _keywords(config), spec)


def fit_scaling(ranker: Ranker, training_set: TrainingSet) -> None:
    """Fit the ranker's scalers on the train rows of `training_set`."""
    ranker.fit_scaling(as_inputs(training_set.inputs(training_set.rows_of(Split.TRAIN))))


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
            f"{folder_path} holds no whole ranker.",
            expected=f"{MODEL_FILE} and {WEIGHTS_FILE}",
            got=str(error),
        ) from None
    return ranker.eval()


def _keywords(config: DeepFMConfig) -> dict[str, Any]:
    return config.model_dump(exclude={"family"})


def _build(family: str, keywords: dict[str, Any], spec: FeatureSpec) -> Ranker:
    families = {"deepfm": DeepFM}
    if family not in families:
        raise ArtifactError("The model's family is unknown.", expected=str(sorted(families)), got=family)
    return families[family](spec, **keywords)
