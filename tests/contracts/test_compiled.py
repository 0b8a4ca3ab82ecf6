"""The compiled pipeline, read back: image, resources, GPUs, secrets by name, storage, retries, a known shape."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorefuse.config.cluster import ClusterConfig, load_cluster
from pipelines.platform import CODE_VARIABLE, HOME_VARIABLE, step_digest
from tests.helpers.kfp_bodies import LOADER, kubernetes_executors, parse_documents
from tests.helpers.shop import PROJECT_PATH, lorefuse

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
    "choose": {"ingest", "embed", "split"},
    "embed-2": {"ingest", "choose"},
    "item-vectors": {"choose", "ingest", "embed-2", "split"},
    "features": {"choose", "ingest", "split", "item-vectors"},
    "materialize": {"choose", "features"},
    "training-set": {"choose", "ingest", "split", "item-vectors", "features", "materialize"},
    "split-2": {"choose", "ingest"},
    "item-vectors-2": {"choose", "ingest", "embed-2", "split-2"},
    "features-2": {"choose", "ingest", "split-2", "item-vectors-2"},
    "materialize-2": {"choose", "features-2"},
    "training-set-2": {"choose", "ingest", "split-2", "item-vectors-2", "features-2", "materialize-2"},
    "tune": {"choose", "training-set"},
    "tune-2": {"choose", "training-set"},
    "evaluate": {"choose", "training-set", "training-set-2", "tune", "tune-2"},
    "lists": {"choose", "embed-2", "training-set", "evaluate"},
    "report": {"choose", "ingest", "split", "item-vectors", "evaluate", "lists"},
    "bundle": {"choose", "ingest", "embed-2", "item-vectors", "features", "training-set", "evaluate", "lists"},
    "register": {"choose", "ingest", "split", "training-set", "evaluate", "bundle", "report", "materialize"},
    "condition-2": {"choose", "materialize", "bundle", "register"},
}
"""The shape of the pipeline. A change here is a change for everybody who has it scheduled: make it on purpose."""


GPU_PATH = PROJECT_PATH / "pipelines" / "clusters" / "gpu.yaml"
NOTHING_CACHED = {"ingest", "register", "deploy", "report-failure"}
GPU_STEPS = {"embed", "tune", "evaluate"}


def compiled(path: Path, *flags: str, **more: str) -> str:
    """Compile in a process of its own: the image is read when the components are imported."""
    env = {**os.environ, "LOREFUSE_IMAGE": IMAGE, "PYTHONPATH": str(PROJECT_PATH), **more}
    command = [sys.executable, "-m", "pipelines.compile", "--out", str(path), *flags]
    done = subprocess.run(command, env=env, cwd=PROJECT_PATH, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert path.name in {file.name for file in path.parent.iterdir()}
    assert not list(path.parent.glob(".*"))
    return path.read_text("utf-8")


def step_of(executor: str) -> str:
    """Return the step of an executor's or task's name: ``exec-tune-2`` → ``tune``."""
    return re.sub(r"^exec-|-\d+$", "", executor)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("compiled") / "training.yaml", **CANARIES)


@pytest.fixture(scope="module")
def spec(text: str) -> dict[str, Any]:
    content: dict[str, Any] = next(yaml.load_all(text, LOADER))
    return content


@pytest.fixture(scope="module")
def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: executor["container"] for name, executor in spec["deploymentSpec"]["executors"].items()}


@pytest.fixture(scope="module")
def gpu_documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("gpu")
    return list(yaml.load_all(compiled(folder / "gpu.yaml", "--cluster", str(GPU_PATH)), LOADER))


def tasks_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every task that runs a container, from all levels."""
    levels = [spec["root"], *spec["components"].values()]
    tasks = {name: task for level in levels for name, task in level.get("dag", {}).get("tasks", {}).items()}
    return {name: task for name, task in tasks.items() if "dag" not in spec["components"][task["componentRef"]["name"]]}


def test_is_valid_ir_and_platform_spec(text: str) -> None:
    documents = list(yaml.load_all(text, LOADER))
    assert len(documents) == 2
    message, platform = parse_documents(*documents)
    assert message.pipeline_info.name == "lorefuse-training"
    assert message.schema_version == "2.1.0"
    assert set(platform.platforms) == {"kubernetes"}
    assert set(kubernetes_executors(platform)) == set(documents[0]["deploymentSpec"]["executors"])


def test_every_step_has_the_image_of_the_environment(containers: dict[str, dict[str, Any]]) -> None:
    files = {path.stem for path in (PROJECT_PATH / "components").glob("*.py")} - {"__init__", "base"}
    assert {step_of(name).replace("-", "_") for name in containers} <= files
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
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()} == TASKS
    served = spec["components"]["comp-condition-2"]["dag"]["tasks"]
    assert set(served) == {"deploy"}
    assert "pipelinechannel--serve'] == true" in tasks["condition-2"]["triggerPolicy"]["condition"]


def test_a_failure_is_reported(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", "report-failure"}
    last = tasks["report-failure"]
    assert last["dependentTasks"] == ["exit-handler-1"]
    assert last["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    given = last["inputs"]["parameters"]
    assert given["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert given["run_id"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"


def test_resources_retries_and_timeouts_by_step(gpu_documents: list[dict[str, Any]]) -> None:
    spec, cluster = gpu_documents[0], load_cluster(GPU_PATH)
    kubernetes = kubernetes_executors(parse_documents(*gpu_documents)[1])
    for name, executor in spec["deploymentSpec"]["executors"].items():
        wanted = cluster.steps.get(step_of(name), cluster.default)
        found = executor["container"]["resources"]
        assert found["resourceCpuRequest"] == wanted.cpu_request, name
        assert found["resourceCpuLimit"] == wanted.cpu_limit, name
        assert found["resourceMemoryRequest"] == wanted.memory_request, name
        assert found["resourceMemoryLimit"] == wanted.memory_limit, name
        assert int(kubernetes[name]["activeDeadlineSeconds"]) == wanted.timeout_s, name
    for name, task in tasks_of(spec).items():
        # Room for three whole tries and the pauses of 30 and 60 s: Argo counts from the first try.
        total_s = 3 * cluster.steps.get(step_of(name), cluster.default).timeout_s + 90
        policy = {"maxRetryCount": 2, "backoffDuration": "30s", "backoffFactor": 2.0}
        assert task["retryPolicy"] == {**policy, "backoffMaxDuration": f"{total_s}s"}, name


def test_gpus_go_to_the_steps_that_profit(gpu_documents: list[dict[str, Any]], spec: dict[str, Any]) -> None:
    executors = gpu_documents[0]["deploymentSpec"]["executors"]
    kubernetes = kubernetes_executors(parse_documents(*gpu_documents)[1])
    for name, executor in executors.items():
        accelerator = executor["container"]["resources"].get("accelerator", {})
        entry = kubernetes[name]
        if step_of(name) in GPU_STEPS:
            assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1"), name
            assert entry["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
            assert entry["nodeSelector"]["labels"] == {"accelerator": "nvidia"}
        else:
            assert (accelerator, entry.get("tolerations"), entry.get("nodeSelector")) == ({}, None, None), name
    assert "nvidia" not in str(spec), "only when asked for"


def test_no_step_is_root_and_secrets_come_by_name(gpu_documents: list[dict[str, Any]]) -> None:
    kubernetes = kubernetes_executors(parse_documents(*gpu_documents)[1])
    for name, entry in kubernetes.items():
        user = {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        assert entry["securityContext"] == user, name
        found = {
            (secret["secretName"], pair["secretKey"], pair["envVar"])
            for secret in entry["secretAsEnv"]
            for pair in secret["keyToEnv"]
        }
        account = "lorefuse-mlflow-promoter" if name == "exec-register" else "lorefuse-mlflow-trainer"
        assert found == {
            (account, "username", "MLFLOW_TRACKING_USERNAME"),
            (account, "password", "MLFLOW_TRACKING_PASSWORD"),
            ("lorefuse-s3", "access-key", "AWS_ACCESS_KEY_ID"),
            ("lorefuse-s3", "secret-key", "AWS_SECRET_ACCESS_KEY"),
            ("lorefuse-stores", "feast-registry-url", "LOREFUSE_FEAST_REGISTRY_URL"),
            ("lorefuse-stores", "online-store-url", "LOREFUSE_ONLINE_STORE_URL"),
        }, name


def test_storage_is_a_claim_and_a_root_or_scratch_space(text: str, gpu_documents: list[dict[str, Any]]) -> None:
    assert gpu_documents[0]["defaultPipelineRoot"] == "s3://lorefuse/pipelines"
    for entry in kubernetes_executors(parse_documents(*gpu_documents)[1]).values():
        assert [(mount["constant"], mount["mountPath"]) for mount in entry["pvcMount"]] == [
            ("lorefuse-home", "/var/lib/lorefuse")
        ]
        assert "emptyDirMounts" not in entry
    plain = list(yaml.load_all(text, LOADER))
    assert "defaultPipelineRoot" not in plain[0]
    for entry in kubernetes_executors(parse_documents(*plain)[1]).values():
        assert [(mount["mountPath"], mount["sizeLimit"]) for mount in entry["emptyDirMounts"]] == [
            (ClusterConfig().storage.mount_path, "20Gi")
        ]
        assert "pvcMount" not in entry


def test_the_code_is_in_the_cache_key_and_what_acts_is_not_cached(
    spec: dict[str, Any], containers: dict[str, dict[str, Any]]
) -> None:
    for name, container in containers.items():
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        code = step_digest(step_of(name).replace("-", "_"))
        assert env == {CODE_VARIABLE: code, HOME_VARIABLE: ClusterConfig().storage.mount_path}, name
        assert container["command"][-1].endswith(f"# {CODE_VARIABLE}: {code}\n"), name  # a variable is in no key
    for name, task in tasks_of(spec).items():
        assert task["cachingOptions"].get("enableCache", False) == (step_of(name) not in NOTHING_CACHED), name


def test_compiling_twice_gives_equal_bytes(text: str, tmp_path: Path) -> None:
    """The second time by the command line."""
    path = tmp_path / "again.yaml"
    done = lorefuse(tmp_path / "home", "compile", "--out", str(path), LOREFUSE_IMAGE=IMAGE)
    assert done.returncode == 0, done.stderr
    assert path.read_text("utf-8") == text
