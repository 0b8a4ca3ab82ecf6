"""The Dockerfiles: linted, pinned, non-root, and fed with what the code needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.helpers.manifests import is_pinned
from tests.infra.conftest import INFRA_PATH, PROJECT_PATH

DOCKERFILES = ("Dockerfile", "serving.Dockerfile")
IN_TRITON = {"triton_python_backend_utils", "c_python_backend_utils"}


def read(name: str) -> str:
    return (INFRA_PATH / "docker" / name).read_text("utf-8")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_linter_finds_nothing(tool: Callable[[str], str], name: str) -> None:
    command = [tool("hadolint"), "--no-color", str(INFRA_PATH / "docker" / name)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_base_image_is_pinned_and_the_user_is_not_root(name: str) -> None:
    text = read(name)
    (base,) = re.findall(r"^ARG \w+_IMAGE=(\S+)", text, re.MULTILINE)
    assert is_pinned(base)
    assert re.findall(r"^USER (.+)", text, re.MULTILINE)[-1] == "10001:10001"
    assert "org.opencontainers.image.version" in text
    assert not re.search(r"^(ARG|ENV) \w*(PASSWORD|SECRET|_KEY|TOKEN=)", text, re.MULTILINE)


def test_final_stage_takes_no_compiler_and_no_build_tool() -> None:
    final = read("Dockerfile").split(" AS final")[1]
    assert not re.search(r"apt-get|build-essential|pip install", final)


def test_context_holds_all_that_is_copied() -> None:
    kept = {line[1:] for line in (PROJECT_PATH / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    copied: set[str] = set()
    for name in DOCKERFILES:
        for arguments in re.findall(r"^COPY (?!--from)(.+)", read(name), re.MULTILINE):
            copied |= set(arguments.split()[:-1])
    assert copied
    for source in copied:
        assert source in kept or source.split("/")[0] in kept, source
        assert (PROJECT_PATH / source).exists(), source


def test_build_of_triton_tries_every_package_that_the_models_import() -> None:
    imported: set[str] = set()
    local = {path.stem for path in (PROJECT_PATH / "serving" / "model_repository").rglob("*.py")}
    for path in (PROJECT_PATH / "serving" / "model_repository").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    local.add("two_stage")  # copied beside them from the library
    needed = imported - set(sys.stdlib_module_names) - local - IN_TRITON
    (checked,) = re.findall(r"python3 -c 'import ([\w., ]+);", read("serving.Dockerfile"))
    tried = {name.split(".")[0] for name in checked.split(", ")}
    assert needed == tried, "the build of serving.Dockerfile must try what the models import"


@pytest.mark.parametrize("name", ["engine.sh", "test_containers.sh"])
def test_scripts_are_bash(name: str) -> None:
    path = INFRA_PATH / "docker" / name
    run = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_yaml_is_clean(tool: Callable[[str], str]) -> None:
    command = [tool("yamllint"), "-c", str(INFRA_PATH / ".yamllint"), str(INFRA_PATH)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
