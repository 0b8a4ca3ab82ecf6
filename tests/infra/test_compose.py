"""compose.yaml: read by Docker Compose itself, then held to our own rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from lorefuse.cli.main import app
from lorefuse.config import load_deployment
from tests.helpers.manifests import is_pinned
from tests.infra.conftest import INFRA_PATH, PROJECT_PATH

COMPOSE_PATH = INFRA_PATH / "compose.yaml"
ONE_SHOT = {"accounts", "bucket", "volumes"}
SERVICES = {"postgres", "redis", "minio", "mlflow", "triton", "reconciler", "prometheus", "grafana"} | ONE_SHOT


def variables() -> list[str]:
    return re.findall(r"^([A-Z0-9_]+)=", (INFRA_PATH / "env.example").read_text("utf-8"), re.MULTILINE)


def resolve(command: str, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Let Compose resolve the file; no engine is asked."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **values}
    arguments = [command, "-f", str(COMPOSE_PATH), "config", "--format", "json"]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60, env=environment)


@pytest.fixture(scope="module")
def services(tool: Callable[[str], str]) -> dict[str, Any]:
    run = resolve(tool("docker-compose"), {name: f"given-{name}".lower() for name in variables()})
    assert run.returncode == 0, run.stderr
    content: dict[str, Any] = json.loads(run.stdout)
    return dict(content["services"])


def test_all_parts_are_there(services: dict[str, Any]) -> None:
    assert services.keys() == SERVICES


def test_every_secret_has_to_be_given(tool: Callable[[str], str]) -> None:
    names = variables()
    for missing in names:
        run = resolve(tool("docker-compose"), {name: "x" for name in names if name != missing})
        assert run.returncode != 0, f"{missing} has a default"
        assert missing in run.stderr
    text = (INFRA_PATH / "env.example").read_text("utf-8")
    assert not re.findall(r"^[A-Z0-9_]+=.+", text, re.MULTILINE), "the example holds values"


def test_ports_are_bound_to_this_machine(services: dict[str, Any]) -> None:
    ports = [(name, port) for name, service in services.items() for port in service.get("ports", ())]
    assert len(ports) >= 9
    assert {port["host_ip"] for _, port in ports} == {"127.0.0.1"}
    published = [port["published"] for _, port in ports]
    assert len(published) == len(set(published))
    assert not [name for name, service in services.items() if service.get("network_mode") == "host"]


def test_images_are_pinned(services: dict[str, Any]) -> None:
    assert not {name: one["image"] for name, one in services.items() if not is_pinned(one["image"])}


def test_services_are_bounded_and_locked_down(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["cpus"] > 0, name
        assert "privileged" not in service, name
        if name != "volumes":
            assert service["read_only"] is True, name
            assert service.get("user") not in ("root", "0"), name
        if name not in ONE_SHOT:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_passwords_are_in_no_command_line(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "given-" not in json.dumps(service.get("command", [])), name
        assert "given-" not in json.dumps(service.get("healthcheck", {})), name


def test_mounted_files_exist(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), f"{name}: {volume['source']}"
                assert volume["read_only"] is True, name
        if "build" in service:
            assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file(), name


def test_mlflow_is_guarded(services: dict[str, Any]) -> None:
    mlflow = services["mlflow"]
    assert "--app-name=basic-auth" in mlflow["command"]
    assert any(one.startswith("--allowed-hosts=") and "mlflow:5000" in one for one in mlflow["command"])
    given = {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD"}
    assert given <= {name for name, value in mlflow["environment"].items() if value.startswith("given-")}


def test_reconciler_and_triton_share_the_repository(services: dict[str, Any]) -> None:
    (replica,) = load_deployment(INFRA_PATH / "compose" / "deployment.yaml").replicas
    assert replica.url == "triton:8001"
    assert f"--model-repository={replica.repository_path}" in " ".join(services["triton"]["command"])
    mounted = [
        {(volume["source"], volume["target"]) for volume in services[name]["volumes"] if volume["type"] == "volume"}
        for name in ("triton", "reconciler")
    ]
    assert ("models", "/models") in mounted[0] & mounted[1]


@pytest.mark.parametrize(
    ("service", "file_name", "names"),
    [("reconciler", "reconciler.yaml", ["reconcile"]), ("accounts", "mlflow-accounts.yaml", ["accounts", "webhook"])],
)
def test_commands_exist(services: dict[str, Any], service: str, file_name: str, names: list[str]) -> None:
    text = " ".join(services[service]["command"])
    manifest = (INFRA_PATH / "k8s" / "base" / file_name).read_text("utf-8")
    commands = re.findall(r"lorefuse (\w+)((?: --[\w-]+ \S+)*)", text)
    assert [name for name, _ in commands] == names
    for name, rest in commands:
        assert f"lorefuse {name}" in manifest
        options = {one.lstrip("-") for command in get_command(app).commands[name].params for one in command.opts}
        assert set(re.findall(r"--([\w-]+)", rest)) <= options


def test_the_administrators_login_is_mlflows_and_the_accounts_alone(services: dict[str, Any]) -> None:
    holders = {name for name, one in services.items() if "given-mlflow_admin_password" in str(one.get("environment"))}
    assert holders == {"mlflow", "accounts"}
    login = services["reconciler"]["environment"]
    assert login["MLFLOW_TRACKING_USERNAME"] == "lorefuse-reconciler"
    assert login["MLFLOW_TRACKING_PASSWORD"] == "given-mlflow_reconciler_password"


def test_kubernetes_and_compose_start_stores_alike() -> None:
    for name in ("databases.sql", "mlflow-auth.ini"):
        ours, theirs = INFRA_PATH / "compose" / name, INFRA_PATH / "k8s" / "base" / "files" / name
        assert ours.read_text("utf-8") == theirs.read_text("utf-8"), name


def test_filled_in_file_is_ignored_by_git() -> None:
    run = subprocess.run(["git", "check-ignore", "-q", "infra/.env"], cwd=PROJECT_PATH, check=False)
    if run.returncode == 128:
        pytest.skip("not a git checkout")
    assert run.returncode == 0
