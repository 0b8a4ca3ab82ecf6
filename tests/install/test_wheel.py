"""The wheel in an environment of its own, without a checkout: a project begun, run, and asked over gRPC.

`make test` lends that environment the packages of this one. `make test-install` takes `lorefuse[all]` from the package
registry instead, runs the demo, and tries the client alone: some ten minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorefuse.deploy.ports import HOST
from tests.helpers.shop import PROJECT_PATH, SERVE_PYTHON_PATH, grpc_port, write_shop

FULL = os.environ.get("LOREFUSE_TEST_INSTALL") == "full"
"""Whether packages come from the registry."""
MAX_CLIENT_BYTES = 60_000_000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(path), str(PROJECT_PATH)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("the build backend cannot be fetched: no package registry")
    assert built.returncode == 0, built.stderr
    (found,) = path.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def env_path(wheel_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and nothing of this checkout."""
    path = tmp_path_factory.mktemp("env")
    venv.create(path, with_pip=True)
    if FULL:
        torch = next(line for line in (PROJECT_PATH / "requirements.lock").open() if line.startswith("torch=="))
        _pip(path, torch.strip())  # the machine's own choice between CPU and CUDA
        _pip(path, f"lorefuse[all] @ {wheel_path.as_uri()}")
    else:
        folder_path = Path(sysconfig.get_path("purelib", vars={"base": str(path), "platbase": str(path)}))
        (folder_path / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
        _pip(path, "--no-deps", str(wheel_path))
    return path


@pytest.fixture
def project(env_path: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables of a user who knows no checkout; what they started is stopped."""
    dropped = ("PYTHONPATH", "LOREFUSE_HOME", "LOREFUSE_PROJECT", "MLFLOW_TRACKING_URI")
    env = {name: text for name, text in os.environ.items() if name not in dropped}
    env |= {"LOREFUSE_TRITON_URL": f"{HOST}:{grpc_port()}", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    if not FULL:
        env["LOREFUSE_SERVE_PYTHON"] = str(SERVE_PYTHON_PATH)
    yield env
    lorefuse(env_path, env, tmp_path / "my-shop", "down")


def _pip(path: Path, *arguments: str) -> None:
    command = [str(path / "bin" / "python"), "-m", "pip", "install", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr


def lorefuse(env_path: Path, env: dict[str, str], folder_path: Path, *arguments: str) -> str:
    """Run a command of the installed package in a folder and return what it printed."""
    command = [str(env_path / "bin" / "lorefuse"), *arguments]
    done = subprocess.run(command, env=env, cwd=folder_path, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_carries_the_project(wheel_path: Path) -> None:
    with zipfile.ZipFile(wheel_path) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"lorefuse"}
    for name in (
        "report/report.html.j2",
        "_project/pipelines/training.py",
        "_project/pipelines/configs/movielens_100k.yaml",
        "_project/components/ingest.py",
        "_project/feature_repo/rec_views.py",
        "_project/serving/model_repository/direct/1/model.py",
        "_project/serving/triton.lock",
    ):
        assert f"lorefuse/{name}" in names
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


@pytest.mark.triton
def test_a_project_without_a_checkout(env_path: Path, project: dict[str, str], tmp_path: Path) -> None:
    if not FULL and not SERVE_PYTHON_PATH.exists():
        pytest.skip(f"no serving environment at {SERVE_PYTHON_PATH}: make setup")
    source = lorefuse(env_path, project, tmp_path, "config", "--schema")
    assert '"PipelineConfig"' in source
    if FULL:
        lorefuse(env_path, project, tmp_path, "init", "my-shop")
        user = "42"
    else:
        write_shop(tmp_path / "files")
        files = [f"--{name}={tmp_path / 'files' / name}.csv" for name in ("interactions", "items")]
        lorefuse(env_path, project, tmp_path, "init", "my-shop", *files, "--no-serving")
        guessed = (tmp_path / "my-shop" / "lorefuse.yaml").read_text("utf-8")
        assert "item_text: [title, description]" in guessed
        for name in ("interactions", "items", "triples", "links"):
            shutil.copyfile(tmp_path / "files" / f"{name}.csv", tmp_path / "my-shop" / f"{name}.csv")
        shutil.copyfile(tmp_path / "files" / "shop.yaml", tmp_path / "my-shop" / "lorefuse.yaml")  # smaller trainings
        user = "u1"
    (tmp_path / "my-shop" / "pipelines").mkdir()  # one of the user's own, which is not ours
    said = lorefuse(env_path, project, tmp_path / "my-shop", "run")
    assert re.search(r"deploy +built", said), said
    answer = lorefuse(env_path, project, tmp_path / "my-shop", "recommend", "--user", user, "-k", "10")
    assert len(re.findall(r"^│ +\d+ +│", answer, re.MULTILINE)) == 10, answer
    assert (tmp_path / "my-shop" / ".lorefuse" / "report.html").is_file()
    assert re.search(r"^ok +Triton", lorefuse(env_path, project, tmp_path / "my-shop", "doctor"), re.MULTILINE)


@pytest.mark.skipif(not FULL, reason="packages come from the registry: make test-install")
def test_the_client_alone_is_small_and_says_what_the_rest_needs(wheel_path: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    download = [str(tmp_path / "env/bin/python"), "-m", "pip", "download", "-q", "-d", str(tmp_path / "files")]
    subprocess.run([*download, str(wheel_path)], check=True, timeout=600)
    assert sum(path.stat().st_size for path in (tmp_path / "files").iterdir()) < MAX_CLIENT_BYTES
    _pip(tmp_path / "env", str(wheel_path))
    code = "from lorefuse.client import Client, is_up; print(is_up('127.0.0.1:1'))"
    asked = [str(tmp_path / "env/bin/python"), "-c", code]
    said = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "False"
    command = subprocess.run(
        [str(tmp_path / "env/bin/lorefuse"), "run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert command.returncode == 2
    assert "pip install 'lorefuse[all]'" in command.stderr
    assert "Traceback" not in command.stderr
