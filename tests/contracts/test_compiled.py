"""The compiled pipeline: valid IR, the image from the environment, no installs, no secrets, a known shape."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format  # type: ignore[import-untyped]
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.pipelines.shop import PROJECT_PATH

IMAGE = "registry.example.org/team/lorefuse-python:1.2.3"
CANARIES = {
    "MLFLOW_TRACKING_PASSWORD": "canary-password-5f1c",
    "MLFLOW_TRACKING_URI": "http://canary-host-5f1c:5000",
    "AWS_SECRET_ACCESS_KEY": "canary-key-5f1c",
}
INPUTS = {"config": "STRUCT", "strategy": "STRING", "second_strategy": "STRING", "serve": "BOOLEAN"}
TASKS = {
    "ingest": set(),
    "embed": {"ingest"},
    "split": {"ingest"},
    "item-vectors": {"ingest", "embed", "split"},
    "features": {"ingest", "split", "item-vectors"},
    "materialize": {"features"},
    "training-set": {"ingest", "split", "item-vectors", "features", "materialize"},
    "split-2": {"ingest"},
    "item-vectors-2": {"ingest", "embed", "split-2"},
    "features-2": {"ingest", "split-2", "item-vectors-2"},
    "materialize-2": {"features-2"},
    "training-set-2": {"ingest", "split-2", "item-vectors-2", "features-2", "materialize-2"},
    "tune": {"training-set"},
    "tune-2": {"training-set"},
    "evaluate": {"training-set", "training-set-2", "tune", "tune-2"},
    "report": {"ingest", "split", "item-vectors", "evaluate"},
    "bundle": {"ingest", "embed", "item-vectors", "features", "training-set", "evaluate"},
    "register": {"ingest", "split", "training-set", "evaluate", "bundle", "report", "materialize"},
    "condition-1": {"materialize", "bundle", "register"},
}
"""The shape of the pipeline. A change here is a change for everybody who has it scheduled: make it on purpose."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compile in a process of its own: the image is read when the components are imported."""
    path = tmp_path_factory.mktemp("compiled") / "training.yaml"
    env = {**os.environ, "LOREFUSE_IMAGE": IMAGE, "PYTHONPATH": str(PROJECT_PATH), **CANARIES}
    command = [sys.executable, "-m", "pipelines.compile", "--out", str(path)]
    done = subprocess.run(command, env=env, cwd=PROJECT_PATH, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in path.parent.iterdir()] == ["training.yaml"]
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def spec(text: str) -> dict[str, Any]:
    content: dict[str, Any] = next(yaml.safe_load_all(text))
    return content


@pytest.fixture(scope="module")
def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: executor["container"] for name, executor in spec["deploymentSpec"]["executors"].items()}


def test_is_valid_ir(spec: dict[str, Any]) -> None:
    message = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert message.pipeline_info.name == "lorefuse-training"
    assert message.schema_version == "2.1.0"
    deployment = json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    assert len(deployment.executors) == len(spec["deploymentSpec"]["executors"])


def test_every_step_has_the_image_of_the_environment(containers: dict[str, dict[str, Any]]) -> None:
    files = {path.stem for path in (PROJECT_PATH / "components").glob("*.py")} - {"__init__", "base"}
    names = {re.sub(r"^exec-|-\d+$", "", name).replace("-", "_") for name in containers}
    assert names == files
    assert {container["image"] for container in containers.values()} == {IMAGE}


def test_nothing_is_installed_at_run_time(containers: dict[str, dict[str, Any]]) -> None:
    for name, container in containers.items():
        said = " ".join([*container["command"], *container.get("args", [])])
        assert not re.search(r"pip3?\s+install|apt-get|curl |wget ", said), name


def test_no_secret_enters(text: str, containers: dict[str, dict[str, Any]]) -> None:
    assert not [value for value in CANARIES.values() if value in text]
    assert "5f1c" not in text
    for name, container in containers.items():
        for variable in container.get("env", []):
            assert not re.search(r"password|secret|token|key|credential", variable["name"], re.IGNORECASE), name
    assert str(Path.home()) not in text
    assert str(PROJECT_PATH) not in text


def test_inputs_are_the_golden_ones(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert {name: entry["parameterType"] for name, entry in parameters.items()} == INPUTS
    assert {name for name, entry in parameters.items() if not entry.get("isOptional")} == {"config"}


def test_tasks_are_the_golden_ones(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    assert {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()} == TASKS
    served = spec["components"]["comp-condition-1"]["dag"]["tasks"]
    assert set(served) == {"deploy"}
    assert "pipelinechannel--serve'] == true" in tasks["condition-1"]["triggerPolicy"]["condition"]


def test_compiling_twice_gives_equal_bytes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "again.yaml"
    env = {**os.environ, "LOREFUSE_IMAGE": IMAGE, "PYTHONPATH": str(PROJECT_PATH)}
    command = [sys.executable, "-m", "pipelines.compile", "--out", str(path)]
    subprocess.run(command, env=env, cwd=PROJECT_PATH, capture_output=True, timeout=120, check=True)
    assert path.read_text("utf-8") == text
