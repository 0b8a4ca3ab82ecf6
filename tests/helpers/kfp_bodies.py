"""Hold what a client sends to the models of `kfp_server_api`, field by field, and pipelines to their protobufs."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

import kfp_server_api
import yaml
from google.protobuf import json_format  # type: ignore[import-untyped]
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

NATIVE: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
INT64_AS_TEXT = ("max_concurrency",)
"""Proto JSON takes a number where the model, made from its JSON form, says text."""


class ContractError(Exception):
    """A request that a real server could not read, or would read otherwise than it was meant."""


def check_model(body: Any, model: str, where: str = "body") -> None:
    """Hold a JSON value to a model: every key known, every value of its declared type, nested ones too."""
    kind = getattr(kfp_server_api, model)
    if hasattr(kind, "allowable_values") and not kind.openapi_types:
        if body not in kind.allowable_values:
            raise ContractError(f"{where}: {body!r} is none of {kind.allowable_values}")
        return
    if not isinstance(body, dict):
        raise ContractError(f"{where}: {model} is an object, got {type(body).__name__}")
    names = {wire: name for name, wire in kind.attribute_map.items()}
    for wire, value in body.items():
        if wire not in names:
            raise ContractError(f"{where}.{wire}: {model} has no such field")
        if names[wire] in INT64_AS_TEXT and isinstance(value, int) and not isinstance(value, bool):
            continue
        _check_value(value, kind.openapi_types[names[wire]], f"{where}.{wire}")


def _check_value(value: Any, kind: str, where: str) -> None:
    if value is None:
        raise ContractError(f"{where}: null")
    if kind == "object":
        return
    if kind == "datetime":
        try:
            datetime.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise ContractError(f"{where}: {value!r} is no time") from None
    elif kind in NATIVE:
        if not isinstance(value, NATIVE[kind]) or (isinstance(value, bool) and kind != "bool"):
            raise ContractError(f"{where}: expected {kind}, got {value!r}")
    elif found := re.fullmatch(r"list\[(.*)\]", kind):
        for index, entry in enumerate(value):
            _check_value(entry, found[1], f"{where}[{index}]")
    elif found := re.fullmatch(r"dict\(str, (.*)\)", kind):
        for key, entry in value.items():
            _check_value(entry, found[1], f"{where}.{key}")
    else:
        check_model(value, kind, where)


def check_filter(text: str) -> list[dict[str, Any]]:
    """Hold a list's filter to V2beta1Filter and return its predicates; proto JSON takes camelCase and enum numbers."""
    content = json.loads(text)
    predicates: list[dict[str, Any]] = []
    for predicate in content.get("predicates", []):
        plain = {re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), key): value for key, value in predicate.items()}
        if isinstance(plain.get("operation"), int):
            plain["operation"] = kfp_server_api.V2beta1PredicateOperation.allowable_values[plain["operation"]]
        predicates.append(plain)
    check_model({"predicates": predicates}, "V2beta1Filter", "filter")
    return predicates


def parse_pipeline(content: dict[str, Any]) -> tuple[Any, Any]:
    """Parse a run's `pipeline_spec` into PipelineSpec and PlatformSpec, and each step's part of the latter."""
    if "pipeline_spec" in content:
        return parse_documents(content["pipeline_spec"], content.get("platform_spec", {}))
    return parse_documents(content, {})


def parse_package(text: str) -> tuple[Any, Any]:
    """Parse an uploaded YAML of one or two documents."""
    documents = list(yaml.load_all(text, LOADER))
    if not 1 <= len(documents) <= 2:
        raise ContractError(f"package: one or two documents, got {len(documents)}")
    return parse_documents(documents[0], documents[1] if len(documents) == 2 else {})


def parse_documents(spec: dict[str, Any], platforms: dict[str, Any]) -> tuple[Any, Any]:
    """Parse both documents strictly: an unknown field anywhere is an error."""
    try:
        pipeline = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        platform = json_format.ParseDict(platforms, pipeline_spec_pb2.PlatformSpec())
        deployment = json_format.MessageToDict(pipeline.deployment_spec)
        executors = json_format.ParseDict(deployment, pipeline_spec_pb2.PipelineDeploymentConfig()).executors
        for label, entry in kubernetes_executors(platform).items():
            if label not in executors:
                raise ContractError(f"platforms.kubernetes: no step has the executor {label}")
            json_format.ParseDict(entry, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    except json_format.ParseError as error:
        raise ContractError(f"pipeline: {error}") from None
    return pipeline, platform


def kubernetes_executors(platform: Any) -> dict[str, dict[str, Any]]:
    """Return executor label → what Kubernetes adds to it, as plain dicts."""
    entries = platform.platforms["kubernetes"].deployment_spec.executors
    return {label: json_format.MessageToDict(entry) for label, entry in entries.items()}


def check_arguments(pipeline: Any, parameters: dict[str, Any]) -> None:
    """Hold a run's parameters to the pipeline's inputs, which a real server leaves to the run itself."""
    inputs = pipeline.root.input_definitions.parameters
    unknown, missing = set(parameters) - set(inputs), {n for n in inputs if not inputs[n].is_optional} - set(parameters)
    if unknown or missing:
        raise ContractError(f"parameters: unknown {sorted(unknown)}, missing {sorted(missing)}")
