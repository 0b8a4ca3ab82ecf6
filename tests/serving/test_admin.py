"""Who may tell a server what to load: holders of its key, and nobody else."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from lorefuse.client import Client
from lorefuse.client.admin import KEY_FILE, VARIABLE, admin_headers, key_for_a_start
from lorefuse.core.errors import ConfigError, UnreachableError, UsageError
from lorefuse.deploy.control import Control
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.ports import free_ports
from lorefuse.deploy.supervisor import Supervisor
from tests.helpers.synthetic_bundle import World
from tests.serving.conftest import PYTHON_PATH

CONFIG = {"backend": "python", "input": [], "output": [], "max_batch_size": 0}


def planted(path: Path) -> tuple[str, dict[str, bytes]]:
    """A model whose code leaves a file behind when it is loaded."""
    code = f"open({str(path)!r}, 'w').close()\nclass TritonPythonModel:\n    pass\n"
    return json.dumps(CONFIG), {"file:1/model.py": code.encode()}


@pytest.mark.parametrize("key", ["", "a guess"])
def test_nobody_without_the_key_loads_code_over_grpc(served: Supervisor, tmp_path: Path, key: str) -> None:
    config, files = planted(tmp_path / "ran")
    with triton.InferenceServerClient(served.url) as stranger:
        with pytest.raises(InferenceServerException, match="restricted"):
            stranger.load_model("planted", admin_headers(key), config=config, files=files)
        for ask in (stranger.get_model_repository_index, stranger.get_log_settings, stranger.get_trace_settings):
            with pytest.raises(InferenceServerException, match="restricted"):
                ask(headers=admin_headers(key))
        with pytest.raises(InferenceServerException, match="restricted"):
            stranger.register_system_shared_memory("region", "/triton_python_backend_shm", 64)
    assert not (tmp_path / "ran").exists()


def test_nobody_without_the_key_loads_code_over_http(served: Supervisor, tmp_path: Path) -> None:
    """As a web page may send it: no preflight, a foreign origin."""
    config, files = planted(tmp_path / "ran")
    encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    body = json.dumps({"parameters": {"config": config, **encoded}})
    headers = {"Content-Type": "text/plain", "Origin": "https://example.org", "Host": "example.org"}
    for path in ("repository/models/planted/load", "repository/index", "logging", "trace/setting"):
        connection = http.client.HTTPConnection("127.0.0.1", served.ports.http, timeout=20)
        connection.request("GET" if path in ("logging", "trace/setting") else "POST", f"/v2/{path}", body, headers)
        assert connection.getresponse().status == 403, path
        connection.close()
    assert not (tmp_path / "ran").exists()


def test_the_key_is_in_a_file_of_its_owner_and_works(served: Supervisor) -> None:
    path = served.serve_path / KEY_FILE
    assert path.stat().st_mode & 0o077 == 0
    assert "recommend" in Control(served.url, served.admin_key).versions()
    for wrong, said in (("", "no key"), ("a guess", "another key")):
        stranger = Control(served.url, wrong)
        for ask in (
            stranger.versions,
            lambda one=stranger: one.load("recommend"),
            lambda one=stranger: one.unload("x"),
        ):
            with pytest.raises(UsageError, match=said):
                ask()
    with Client(served.url) as client:
        assert client.recommend("u3", 3).items, "questions need no key"
        with pytest.raises(UnreachableError, match="restricted"):
            client.shared_batch(4096, key="")


@pytest.mark.parametrize("key", ["short", "with,comma,and,more,letters", "a:b=c d e f g h i j k"])
def test_a_key_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(VARIABLE, key)
    with pytest.raises(ConfigError, match=f"(?s){VARIABLE}.*16 or more.*openssl") as raised:
        key_for_a_start()
    assert key not in str(raised.value)


def test_a_server_answers_no_http_and_knows_no_secrets(
    bundles: tuple[Path, Path],
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_supervisor: Callable[[], Supervisor],
) -> None:
    for name in ("LOREFUSE_LLM_KEY", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "SOMEBODYS_TOKEN"):
        monkeypatch.setenv(name, "planted-secret")
    monkeypatch.delenv("LOREFUSE_TRITON_HTTP", raising=False)
    supervisor = Supervisor(tmp_path / "serve", free_ports(), PYTHON_PATH)
    try:
        deploy(bundles[0], world.store_path, 1, supervisor=supervisor)
        process = supervisor.process()
        assert process is not None
        family = [process, *process.children(recursive=True)]
        assert any("stub" in child.name() for child in family)
        assert not [one for one in family if "planted-secret" in str(one.environ())]
        listening = {entry.laddr.port for entry in process.net_connections() if entry.status == psutil.CONN_LISTEN}
        assert supervisor.ports.grpc in listening
        assert supervisor.ports.http not in listening
    finally:
        supervisor.stop()
