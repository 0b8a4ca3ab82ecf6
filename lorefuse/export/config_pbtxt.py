"""Signatures → config.pbtxt, in protobuf's own text format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorefuse.core.atomic import atomic_file
from lorefuse.core.errors import ArtifactError
from lorefuse.export.signature import (
    CATALOGUE_RANKER,
    DIRECT,
    FEATURES,
    RANKER,
    RECOMMEND,
    ModelSignature,
    ServingSignature,
    TensorSignature,
)

CONFIG_FILE, GPU_CONFIG_FILE = "config.pbtxt", "configs/gpu.pbtxt"
ONNX_MODELS = (RANKER, CATALOGUE_RANKER)
_INSTANCES, _GPU_INSTANCES = {DIRECT: 2}, {CATALOGUE_RANKER: 2}
"""Of the models that have more than one: those that carry the load."""
_SPARE_PRIORITY = 1_000_000
"""An instance of `direct` after the first is given one request of so many while the first is free."""


def model_config(signature: ModelSignature, versions: Sequence[int], *, gpu: bool = False, batches: bool = True) -> Any:
    """Return Triton's ModelConfig of an ONNX or Python model.

    Args:
        signature: Its tensors.
        versions: Versions served side by side.
        gpu: Ask for instances on GPUs (ONNX models alone); plain configs load on any machine.
        batches: Let `direct` answer together what waits. Without it each request is answered as soon as it is ready.
    """
    from tritonclient.grpc import model_config_pb2 as pb

    config = _base(signature, versions)
    onnx = signature.name in ONNX_MODELS
    config.backend = "onnxruntime" if onnx else "python"
    group = config.instance_group.add(count=(_GPU_INSTANCES if gpu else _INSTANCES).get(signature.name, 1))
    if not onnx:
        group.kind = pb.ModelInstanceGroup.KIND_CPU
    if signature.name not in (*ONNX_MODELS, DIRECT):
        return config
    if gpu:
        group.kind = pb.ModelInstanceGroup.KIND_GPU
    if signature.name == DIRECT:
        _prefer_first(group, config)
    # No delay: what waits while an instance is busy is batched, and a lone request is never held up. No bound or
    # timeout of the queue either: with one, Triton 2.51 to 2.60 lets a request that finds all instances busy sleep up
    # to half a second, unless another comes (its batcher is not told when an instance becomes free).
    if batches or signature.name != DIRECT:
        config.dynamic_batching.SetInParent()
    return config


def _prefer_first(group: Any, config: Any) -> None:
    """Split a group of instances, so that a lone client always meets the same process and finds its caches warm.

    Triton takes turns otherwise. It heeds priorities where it was started with ``--rate-limit=execution_count``.
    """
    num_spare, group.count = group.count - 1, 1
    group.rate_limiter.priority = 1
    spare = config.instance_group.add(count=num_spare, kind=group.kind)
    spare.rate_limiter.priority = _SPARE_PRIORITY


def ensemble_config(
    signatures: ServingSignature, version: int, name: str = RECOMMEND, *, gpu: bool = False, retrieves: bool = False
) -> Any:
    """Return the ModelConfig of a front: features → catalogue_ranker → answer, all of one version.

    Past one graph it is features → retrieve → answer. On a CPU the three are one step, `direct`: moving tensors between
    models costs more there than the graph.

    `recommend` is the public front; a rollout has others, under names of their own.

    The version is pinned in each step: vectors of one version never meet the graph of another, and a new version
    starts to answer at the moment this one config is loaded.
    """
    config = _base(signatures.recommend, [version])
    config.name, config.platform = name, "ensemble"
    public_inputs = {tensor.name: tensor.name for tensor in signatures.recommend.inputs}
    public = {tensor.name: tensor.name for tensor in signatures.recommend.outputs}
    if not gpu:
        _step(config, signatures.direct, version, public_inputs, public)
        return config
    ranking = signatures.retrieve if retrieves else signatures.catalogue_ranker
    read = {tensor.name for tensor in (*ranking.inputs, *signatures.answer.inputs)}  # Triton refuses what nobody reads
    outputs = [tensor.name for tensor in signatures.features.outputs if tensor.name in read]
    inner = {name: f"{FEATURES}_{name}" for name in outputs}
    ranked = {tensor.name: f"ranked_{tensor.name}" for tensor in ranking.outputs}
    _step(config, signatures.features, version, public_inputs, inner)
    _step(config, ranking, version, inner, ranked)
    _step(config, signatures.answer, version, inner | ranked, public)
    return config


def _step(
    config: Any, signature: ModelSignature, version: int, inputs: dict[str, str], outputs: dict[str, str]
) -> None:
    step = config.ensemble_scheduling.step.add(model_name=signature.name, model_version=version)
    for tensor in signature.inputs:
        step.input_map[tensor.name] = inputs[tensor.name]
    for name in (tensor.name for tensor in signature.outputs if tensor.name in outputs):
        step.output_map[name] = outputs[name]


def _base(signature: ModelSignature, versions: Sequence[int]) -> Any:
    from tritonclient.grpc import model_config_pb2 as pb

    config = pb.ModelConfig(name=signature.name, max_batch_size=signature.max_batch_size)
    config.version_policy.specific.versions.extend(sorted(set(versions)))
    for tensor in signature.inputs:
        config.input.add(
            name=tensor.name,
            data_type=_data_type(tensor),
            dims=tensor.dims,
            **({"optional": True} if tensor.optional else {}),
        )
    for tensor in signature.outputs:
        output = config.output.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.dims)
        if tensor.flat:
            output.reshape.SetInParent()
    return config


def _data_type(tensor: TensorSignature) -> int:
    from tritonclient.grpc import model_config_pb2 as pb

    name = "STRING" if tensor.dtype == "bytes" else tensor.triton_dtype
    return int(pb.DataType.Value(f"TYPE_{name}"))


def write_config(path: Path, config: Any) -> None:
    """Write a config atomically; a file that already says the same is left alone, for Triton reloads what changed."""
    from google.protobuf import text_format  # type: ignore[import-untyped]

    text = text_format.MessageToString(config)
    if not path.is_file() or path.read_text("utf-8") != text:
        with atomic_file(path) as draft_path:
            draft_path.write_text(text, "utf-8")


def read_config(path: Path) -> Any:
    """Read a config.pbtxt.

    Raises:
        ArtifactError: It is missing or not a model config.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    try:
        return text_format.Parse(path.read_text("utf-8"), pb.ModelConfig())
    except (OSError, text_format.ParseError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not a model config.", got=str(error), fix="deploy again") from None
