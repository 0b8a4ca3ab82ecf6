"""The real image, the real engine: who it runs as, what is in it, and the training pipeline in containers of it.

`make test-containers` builds the image and sets LOREFUSE_TEST_IMAGE; without it these tests skip.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.shop import environment, pipeline_command, without_clock, write_preset, write_shop
from tests.infra.conftest import INFRA_PATH, PROJECT_PATH

IMAGE = os.environ.get("LOREFUSE_TEST_IMAGE", "")
SCRIPT_PATH = INFRA_PATH / "docker" / "run_pipeline.py"
STEPS = {"ingest", "embed", "split", "item_vectors", "features", "materialize", "training_set", "tune", "evaluate",
         "bundle", "report", "register"}  # fmt: skip
TIMEOUT_S = 1500
NUM_FAST_FAILURES = 10

pytestmark = [
    pytest.mark.containers,
    pytest.mark.slow,
    pytest.mark.skipif(
        not IMAGE, reason="no image in LOREFUSE_TEST_IMAGE: make test-containers builds it and runs this"
    ),
]


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """The module that runs a step's container."""
    spec = importlib.util.spec_from_file_location("container_runner", INFRA_PATH / "docker" / "container_runner.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shop() -> Iterator[Path]:
    """A folder with a small shop that the image's user may enter; pytest's own folders are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="lorefuse-containers-"))
    path.chmod(0o755)
    write_shop(path / "data")
    yield path
    shutil.rmtree(path)


def in_image(*command: str) -> str:
    run = ["docker", "run", "--rm", "--network", "none", IMAGE, *command]
    return subprocess.run(run, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def finish(command: list[str], home_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(home_path), cwd=PROJECT_PATH, capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip


def in_containers(home_path: Path, config_path: Path) -> subprocess.CompletedProcess[str]:
    return finish([sys.executable, str(SCRIPT_PATH), "--config", str(config_path), "--image", IMAGE], home_path)


def metrics(home_path: Path) -> dict[str, Any]:
    (path,) = home_path.glob("cache/steps/evaluate/[!.]*/metrics.json")
    content: dict[str, Any] = without_clock(json.loads(path.read_text("utf-8")))
    return content


def test_image_is_not_root_and_holds_no_compiler() -> None:
    assert in_image("id", "-u") == "10001"
    found = in_image("sh", "-c", "for c in cc gcc g++ clang make ld; do command -v $c || true; done")
    assert found == ""


def test_image_holds_what_the_lock_says() -> None:
    installed = {line.lower() for line in in_image("pip", "list", "--format=freeze").splitlines()}
    names = {re.sub(r"[-_.]+", "-", line.split("==")[0]): line.split("==")[1].split("+")[0] for line in installed}
    lock = (PROJECT_PATH / "requirements.lock").read_text("utf-8")
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE):
        assert names.get(re.sub(r"[-_.]+", "-", name.lower())) == version, name


def test_image_has_labels_and_no_secret() -> None:
    text = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, text=True, check=True).stdout
    config = json.loads(text)[0]["Config"]
    assert config["Labels"]["org.opencontainers.image.title"] == "lorefuse-python"
    assert len(config["Labels"]["org.opencontainers.image.revision"]) >= 7
    assert config["User"] == "10001:10001"
    assert not [line for line in config["Env"] if re.search(r"(?i)password|secret|_key=|cert", line)]


def test_exit_code_of_a_step_that_fails_at_once_is_read(runner: ModuleType) -> None:
    """With kfp's own code some of these come back as 0: the container is gone before its exit code is asked for."""
    import docker

    client = docker.from_env()
    options = runner.ContainerOptions()
    codes = [runner.run_container(client, IMAGE, ["sh", "-c", "exit 3"], {}, options) for _ in range(NUM_FAST_FAILURES)]
    client.close()
    assert codes == [3] * NUM_FAST_FAILURES


def test_failing_step_fails_the_pipeline(shop: Path) -> None:
    path = shop / "broken"
    write_shop(path)
    config_path = write_preset(path, data__source__timestamp="no_such_column")
    run = in_containers(shop / "broken-home", config_path)
    assert run.returncode == 2, f"{run.stdout}\n{run.stderr}"
    assert "Step ingest failed" in run.stderr
    assert "no_such_column" in run.stderr
    assert "Traceback" not in run.stdout + run.stderr


def test_pipeline_in_containers_agrees_with_the_one_outside(shop: Path) -> None:
    run = in_containers(shop / "home", shop / "data" / "shop.yaml")
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    print(run.stdout)
    assert set(re.findall(r"^  (\w+) +(?:built|reused)", run.stdout, re.MULTILINE)) == STEPS
    assert (shop / "home" / "report.html").stat().st_size > 10_000
    assert (shop / "home" / "report.html").stat().st_uid != 0
    outside = finish(pipeline_command(shop / "data" / "shop.yaml", "--no-deploy"), shop / "outside")
    assert outside.returncode == 0, f"{outside.stdout}\n{outside.stderr}"
    inside, outside_metrics = metrics(shop / "home"), metrics(shop / "outside")
    assert inside["splits"]["per_user_time"]["arms"]["real"]["test"]
    assert inside == outside_metrics
