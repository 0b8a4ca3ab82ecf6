"""Starts the real Triton with the very flags of the Kubernetes manifest, serving one small model."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from lorefuse.deploy.ports import HOST, Ports, free_ports
from lorefuse.deploy.runtime import find_runtime
from tests.infra.conftest import INFRA_PATH, PROJECT_PATH

PYTHON_PATH = Path(os.environ.get("LOREFUSE_SERVE_PYTHON", PROJECT_PATH / ".venv-serve/bin/python"))
START_TIMEOUT_S, STOP_TIMEOUT_S = 90, 40
SMALL_CONFIG = """name: "recommend"
backend: "python"
max_batch_size: 8
input [{ name: "number" data_type: TYPE_INT32 dims: [1] }]
output [{ name: "same" data_type: TYPE_INT32 dims: [1] }]
instance_group [{ count: 1 kind: KIND_CPU }]
dynamic_batching {}
"""
SMALL_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils
from router import Meter

class TritonPythonModel:
    def initialize(self, args):
        self.meter = Meter({"recommend_stable": "1", "recommend_canary": "2"})

    def execute(self, requests):
        for front in self.meter.versions:
            self.meter.answered(front, 1.0, np.zeros(1))
            self.meter.failed(front)
        self.meter.compared(0.5)
        arrays = [pb_utils.get_input_tensor_by_name(request, "number").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("same", array)]) for array in arrays]
"""
"""Counts as the router of a trial does, with the router's own code."""
ADMIN_KEY = "a-key-of-the-tests"


def manifest_flags(models_path: Path) -> list[str]:
    """Return Triton's flags in infra/k8s/base/triton.yaml, with another folder in the place of the volume."""
    documents = yaml.safe_load_all((INFRA_PATH / "k8s" / "base" / "triton.yaml").read_text("utf-8"))
    (triton,) = [one for one in documents if one["kind"] == "StatefulSet"]
    (container,) = triton["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["tritonserver"]
    text = "\n".join(container["args"])
    said = {"$(POD_NAME)": "triton-0", "$(LOREFUSE_TRITON_ADMIN_KEY)": ADMIN_KEY, "/models": str(models_path)}
    for name, value in said.items():
        text = text.replace(name, value)
    return text.splitlines()


def write_small_model(repository_path: Path) -> None:
    """Put a model called `recommend` into a repository, and a folder beside it that holds no model."""
    version_path = repository_path / "recommend" / "1"
    version_path.mkdir(parents=True)
    (version_path.parent / "config.pbtxt").write_text(SMALL_CONFIG, "utf-8")
    (version_path / "model.py").write_text(SMALL_MODEL, "utf-8")
    shutil.copy(PROJECT_PATH / "serving" / "model_repository" / "router" / "1" / "model.py", version_path / "router.py")
    (repository_path / "leftover" / "1").mkdir(parents=True)


@contextlib.contextmanager
def running(folder_path: Path) -> Iterator[Ports]:
    """Run the server until the block ends; skips where there is none."""
    if not PYTHON_PATH.exists():
        pytest.skip(f"no serving environment at {PYTHON_PATH}: make setup")
    runtime, ports = find_runtime(PYTHON_PATH, folder_path / "runtime"), free_ports()
    models_path = folder_path / "models"
    write_small_model(models_path / "triton-0" / "model_repository")
    command = [str(runtime.server_path), *manifest_flags(models_path)]
    command += [f"--backend-directory={runtime.backend_path}", f"--cache-directory={runtime.cache_path}"]
    command += [f"--{name}-address={HOST}" for name in asdict(ports)]
    command += [f"--{name}-port={port}" for name, port in asdict(ports).items()]
    with (folder_path / "triton.log").open("wb") as log:
        process = subprocess.Popen(command, env=runtime.environment, stdout=log, stderr=log, cwd=folder_path)
    try:
        _wait_ready(f"http://{HOST}:{ports.http}/v2/models/recommend/ready", process, folder_path / "triton.log")
        yield ports
    finally:
        process.terminate()
        assert process.wait(STOP_TIMEOUT_S) == 0


def status_code(url: str) -> int:
    """Return what a probe would see: the status, or 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _wait_ready(url: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    end_s = time.monotonic() + START_TIMEOUT_S
    while status_code(url) != 200:
        assert process.poll() is None, log_path.read_text("utf-8", "replace")[-3000:]
        assert time.monotonic() < end_s, log_path.read_text("utf-8", "replace")[-3000:]
        time.sleep(0.2)
