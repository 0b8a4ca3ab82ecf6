"""Which versions of a model repository are served: the configs of its parts and fronts.

One model name has one set of tensors. Versions whose tensors are equal stand side by side under one config; of the
others a part serves those that fit the version it was configured for. `direct`, and so `recommend` on a CPU, asks for
the same tensors whatever the model is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from lorefuse.core.errors import ArtifactError
from lorefuse.export.config_pbtxt import (
    CONFIG_FILE,
    GPU_CONFIG_FILE,
    ONNX_MODELS,
    ensemble_config,
    model_config,
    read_config,
    write_config,
)
from lorefuse.export.signature import (
    ANSWER,
    CATALOGUE_RANKER,
    DIRECT,
    EMBED,
    FEATURES,
    RANKER,
    RECOMMEND,
    RETRIEVE,
    ServingSignature,
)
from lorefuse.training_set.spec import FeatureSpec

FEATURES_FILE = "features.json"
PART_MODELS = (RANKER, CATALOGUE_RANKER, RETRIEVE, FEATURES, ANSWER, DIRECT)
"""Models that a version may have; of the second and the third it has one."""
ALL_MODELS = (*PART_MODELS, RECOMMEND, EMBED)
"""Models that may have a folder of a version's own."""


def signatures_of(repository_path: Path, version: int) -> ServingSignature:
    """Return inputs and outputs of the models of a version, as its folder says.

    Raises:
        ArtifactError: The version is not there, or an older release wrote it.
    """
    return ServingSignature.of(FeatureSpec.load(repository_path / RANKER / str(version)))


def differing_parts(repository_path: Path, version: int, other: int) -> set[str] | None:
    """Return the models whose tensors differ between two versions; None where one of them does not say."""
    try:
        pair = [signatures_of(repository_path, number).models for number in (version, other)]
    except ArtifactError:
        return None
    return {ours.name for ours, theirs in zip(*pair, strict=True) if ours != theirs}


def write_configs(repository_path: Path, versions: Sequence[int], like: int) -> None:
    """Write the configs of the parts: these versions are served side by side once Triton loads them.

    A part serves those of them that have it and whose tensors are those of the version `like`. Where there are none
    it loses its config: load what `configured_parts` names and nothing else.

    Raises:
        ArtifactError: The folder of `like` does not say what its tensors are, or is damaged.
    """
    differing = {number: differing_parts(repository_path, like, number) for number in versions}
    batches = _batches(repository_path, like)
    for signature in signatures_of(repository_path, like).models:
        if signature.name not in PART_MODELS:
            continue
        folder_path = repository_path / signature.name
        fitting = [
            number
            for number in versions
            if (folder_path / str(number)).is_dir() and signature.name not in (differing[number] or ())
        ]
        if not fitting:
            (folder_path / CONFIG_FILE).unlink(missing_ok=True)
            continue
        write_config(folder_path / CONFIG_FILE, model_config(signature, fitting, batches=batches))
        if signature.name in ONNX_MODELS:
            write_config(folder_path / GPU_CONFIG_FILE, model_config(signature, fitting, gpu=True))


def configured_parts(repository_path: Path) -> list[str]:
    """Return the parts that have a config, in order of loading."""
    return [name for name in PART_MODELS if (repository_path / name / CONFIG_FILE).is_file()]


def loaded_versions(repository_path: Path) -> list[int]:
    """Return the versions that `direct`'s config names, the active one among them."""
    path = repository_path / DIRECT / CONFIG_FILE
    return [int(number) for number in read_config(path).version_policy.specific.versions] if path.is_file() else []


def retrieves(repository_path: Path, version: int) -> bool:
    """Tell whether a version retrieves, then ranks; else one graph ranks its whole catalogue."""
    return (repository_path / RETRIEVE / str(version)).is_dir()


def _batches(repository_path: Path, version: int) -> bool:
    """Tell whether requests that wait for a version are answered together; of an older release's version they are."""
    path = repository_path / DIRECT / str(version) / FEATURES_FILE
    try:
        facts = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ArtifactError(f"{path} cannot be read.", got=str(error), fix="deploy again: lorefuse run") from None
    return bool(facts.get("dynamic_batching", True))


def write_active(repository_path: Path, version: int, *, name: str = RECOMMEND) -> None:
    """Write the config of a front, by default of `recommend`: this version answers once Triton loads it.

    With `recommend` goes `embed`, where the version has it: load what `companions` names as well.

    Raises:
        ArtifactError: The version's folder does not say what its tensors are.
    """
    signatures = signatures_of(repository_path, version)
    (repository_path / name / str(version)).mkdir(parents=True, exist_ok=True)
    write_config(repository_path / name / CONFIG_FILE, ensemble_config(signatures, version, name))
    gpu = ensemble_config(signatures, version, name, gpu=True, retrieves=retrieves(repository_path, version))
    write_config(repository_path / name / GPU_CONFIG_FILE, gpu)
    if name != RECOMMEND:
        return
    config_path = repository_path / EMBED / CONFIG_FILE
    if (repository_path / EMBED / str(version)).is_dir():
        write_config(config_path, model_config(signatures.embed, [version]))
    else:
        config_path.unlink(missing_ok=True)


def companions(repository_path: Path, version: int) -> list[str]:
    """Return the models that are to be loaded beside `recommend` when this version answers: `embed`, or none."""
    path = repository_path / EMBED / CONFIG_FILE
    there = path.is_file() and list(read_config(path).version_policy.specific.versions) == [version]
    return [EMBED] if there else []


def active_version(repository_path: Path) -> int | None:
    """Return the version that `recommend` answers with; None where nothing was deployed yet."""
    path = repository_path / RECOMMEND / CONFIG_FILE
    if not path.is_file():
        return None
    versions = list(read_config(path).version_policy.specific.versions)
    return int(versions[0]) if versions else None


def remove_version(repository_path: Path, version: int) -> None:
    """Remove one version of all models from disk."""
    for name in ALL_MODELS:
        shutil.rmtree(repository_path / name / str(version), ignore_errors=True)
