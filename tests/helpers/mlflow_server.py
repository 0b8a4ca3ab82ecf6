"""The real MLflow server, started with the flags and variables that compose.yaml and the Kubernetes manifests give it.

Its stores are replaced: SQLite and a folder in the place of PostgreSQL and S3, which tests/stores runs.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

INFRA_PATH = Path(__file__).resolve().parents[2] / "infra"
HOST = "127.0.0.1"
START_TIMEOUT_S = 240
ADMIN, PASSWORD = "the-admin", "a-password-of-this-test"
REPLACED = ("--host", "--port", "--workers", "--backend-store-uri", "--artifacts-destination")


def compose_mlflow() -> dict[str, Any]:
    content = yaml.safe_load((INFRA_PATH / "compose.yaml").read_text("utf-8"))
    return dict(content["services"]["mlflow"])


def kubernetes_args() -> list[str]:
    documents = yaml.safe_load_all((INFRA_PATH / "k8s" / "base" / "mlflow.yaml").read_text("utf-8"))
    (deployment,) = [one for one in documents if one["kind"] == "Deployment"]
    return list(deployment["spec"]["template"]["spec"]["containers"][0]["args"])


def kept(flags: list[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith("--") and flag.split("=")[0] not in REPLACED]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the server."""
    path = tmp_path_factory.mktemp("mlflow-server")
    auth = (INFRA_PATH / "compose" / "mlflow-auth.ini").read_text("utf-8")
    auth = re.sub(r"(?m)^database_uri = .*", f"database_uri = sqlite:///{path / 'auth.db'}", auth)
    (path / "auth.ini").write_text(auth, "utf-8")
    given = {"MLFLOW_ADMIN_USERNAME": ADMIN, "MLFLOW_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SECRET_KEY": "x" * 32}
    given["MLFLOW_WEBHOOK_ENCRYPTION_KEY"] = base64.urlsafe_b64encode(bytes(32)).decode()
    variables = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda match: given.get(match[1], ""), str(value))
        for name, value in compose_mlflow()["environment"].items()
    }
    variables |= {"MLFLOW_AUTH_CONFIG_PATH": str(path / "auth.ini"), "HOME": str(path)}
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", *kept(compose_mlflow()["command"]), f"--host={HOST}"]
    # The tests' own clients say its real address; requests that name a Host say that of compose.yaml.
    command = [f"{one},{HOST}:{port}" if one.startswith("--allowed-hosts=") else one for one in command]
    command += [f"--port={port}", "--workers=1", f"--backend-store-uri=sqlite:///{path / 'mlflow.db'}"]
    command += [f"--artifacts-destination={path / 'artifacts'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(INFRA_PATH.parent)
    with (path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env={**environment, **variables}, stdout=log, stderr=log, cwd=path)
    try:
        end_s = time.monotonic() + START_TIMEOUT_S
        while ask(f"http://{HOST}:{port}", "/health", "mlflow")[0] != 200:
            assert process.poll() is None, (path / "server.log").read_text("utf-8", "replace")[-3000:]
            assert time.monotonic() < end_s, (path / "server.log").read_text("utf-8", "replace")[-3000:]
            time.sleep(0.3)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(60)


def ask(
    url: str, path: str, host: str, body: Any = None, *, login: tuple[str, str] | None = None, method: str | None = None
) -> tuple[int, str]:
    """Return status and text of an answer; 0 where there is none."""
    headers = {"Host": host, "Content-Type": "application/json"}
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    data = json.dumps(body).encode() if body is not None else None
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}{path}", data, headers, method=method), timeout=20
        ) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""
