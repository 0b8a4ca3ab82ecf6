"""The MLflow that `lorefuse ui` starts: its owner alone is let in, and webhooks go to hosts that are listed."""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ConfigError, LorefuseError, UsageError
from lorefuse.deploy import webhook
from lorefuse.deploy.ports import free_ports
from lorefuse.registry import own_server, server
from lorefuse.registry.access.hosts import HOSTS_VARIABLE, check_target, listed_hosts
from lorefuse.registry.tracking import connect
from tests.unit.registry.conftest import Workbench

SECRET = "s" * 24
API = "/api/2.0/mlflow"


class Receiver(BaseHTTPRequestHandler):
    """Takes deliveries; below /away it sends them on to another host, as a redirect that keeps the body."""

    paths: list[str] = []  # noqa: RUF012
    elsewhere = ""

    def do_POST(self) -> None:
        self.paths.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(307 if self.path == "/away" else 200)
        self.send_header("Location", self.elsewhere)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[int]:
    """Port of a receiver on 127.0.0.1."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    Receiver.elsewhere = f"http://localhost:{http.server_port}/elsewhere"  # another name, so not the listed one
    yield http.server_port
    http.shutdown()
    http.server_close()


@pytest.fixture
def url(workbench: Workbench, receiver: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a home's own server whose list holds the receiver alone."""
    monkeypatch.setenv("MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http,https")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    # Written past the server and its list, as by an earlier version of Lorefuse.
    connect().create_webhook(webhook.WEBHOOK_NAME, f"http://localhost:{receiver}/old", list(webhook.EVENTS))
    monkeypatch.setenv(HOSTS_VARIABLE, f"127.0.0.1:{receiver}")
    found = server.start(free_ports().http).url
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found)
    yield found
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    server.stop()


def ask(url: str, path: str, body: Any = None, login: tuple[str, str] | None = None, method: str = "") -> int:
    headers = {"Content-Type": "application/json"}
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}{path}", data, headers, method=method or ("GET" if data is None else "POST")
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_only_the_owner_is_let_in_and_webhooks_go_where_they_may(url: str, receiver: int) -> None:
    login = own_server.own_login(url)
    assert login is not None
    assert str(own_server.password_path()) in server.where().login, "a person is told where it is"
    alias = {"name": "m", "alias": "champion", "version": "1"}
    artifact = f"{API}-artifacts/artifacts/0/x.txt"
    for prefix in ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow"):
        assert ask(url, f"{prefix}/registered-models/alias", alias) == 401
        assert ask(url, f"{prefix}/webhooks", {}) == 401
    for wrong in (None, (login[0], ""), (login[0], login[1][:-1]), ("admin", login[1])):
        for path in ("/", "/graphql", artifact, "/api/2.0/mlflow/webhooks", "/version", "/health/", "//health"):
            assert ask(url, path, login=wrong) == 401, (path, wrong)
        assert ask(url, artifact, {}, wrong, "PUT") == 401
    assert ask(url, "/health") == 200
    assert ask(url, "/", login=login) == 200
    assert ask(url, artifact, {}, login, "PUT") == 200
    assert own_server.password_path().stat().st_mode & 0o077 == 0

    assert all(login[1] not in part for part in psutil.Process(server.status().pid).cmdline())

    client = connect()  # finds the login by itself
    (old,) = client.list_webhooks()
    assert "may not deliver" in str(client.test_webhook(old.webhook_id).error_message), "held at the delivery too"
    for place in (
        "169.254.169.254",
        "127.0.0.1:22",
        f"localhost:{receiver}",
        "localhost",
        f"127.0.0.1:{receiver}@x.org",
    ):
        with pytest.raises(LorefuseError, match="may not deliver"):
            webhook.register(f"http://{place}/webhook", SECRET)
    entry = webhook.register(f"http://127.0.0.1:{receiver}/webhook", SECRET)
    assert entry.webhook_id == old.webhook_id
    assert client.test_webhook(entry.webhook_id).success
    client.update_webhook(entry.webhook_id, url=f"http://127.0.0.1:{receiver}/away")
    assert not client.test_webhook(entry.webhook_id).success
    assert Receiver.paths == ["/webhook", "/away"], "a redirect to a host that is not listed is not followed"


def test_a_webhook_written_past_the_server_is_held_to_the_list_too(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in server.webhook_environment():
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    with pytest.raises(UsageError, match="may not deliver") as caught:
        webhook.register("http://169.254.169.254/latest", SECRET)
    assert caught.value.exit_code == 2
    assert "127.0.0.1:8650" in str(caught.value)
    assert webhook.register("http://127.0.0.1:8650/webhook", SECRET).url == "http://127.0.0.1:8650/webhook"


def test_a_foreign_program_on_the_port_is_not_told_the_password(workbench: Workbench) -> None:
    assert own_server.own_login(f"http://127.0.0.1:{own_server.DEFAULT_PORT}") is None
    write_json(
        own_server.pid_path(), {"pid": 1, "identity": "of a server that has ended", "port": own_server.DEFAULT_PORT}
    )
    assert own_server.own_login(f"http://127.0.0.1:{own_server.DEFAULT_PORT}") is None


HOSTS = frozenset({"reconciler:8650", "hooks.example.org:443"})


@pytest.mark.parametrize(
    "url", ["http://reconciler:8650/webhook", "HTTPS://Hooks.example.org/a?b=c", "https://hooks.example.org:443"]
)
def test_listed_hosts_are_let_through(url: str) -> None:
    check_target(url, HOSTS)


@pytest.mark.parametrize(
    "url",
    [
        "http://reconciler/webhook",
        "https://reconciler:8651/",
        "http://hooks.example.org/",
        "https://hooks.example.org.evil.org/",
        "https://hooks.example.org@evil.org/",
        "https://hooks.example.org:443@evil.org/",
        "https://evil.org\\@hooks.example.org/",
        "https://hooks.example.org\\.evil.org/",
        "https://hooks.example.org/\\evil",
        "https://hooks.example.org\t/",
        "https://hooks.example.org\n",
        "https://hooks。example.org/",
        "ftp://hooks.example.org/",
        "https:hooks.example.org",
        "//hooks.example.org/",
        "http://2130706433/",
        "",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="may not deliver"):
        check_target(url, HOSTS)


def test_the_list_is_read_and_a_wrong_one_is_the_users_error() -> None:
    assert listed_hosts({}) == frozenset()
    assert listed_hosts({HOSTS_VARIABLE: " reconciler:8650, Hooks.example.org,"}) == HOSTS
    with pytest.raises(ConfigError, match="host:port"):
        listed_hosts({HOSTS_VARIABLE: "http://reconciler:8650/"})


def test_a_taken_port_is_said_with_the_command_that_takes_another(receiver: int) -> None:
    from lorefuse.cli.main import app

    result = CliRunner().invoke(app, ["ui", "--no-browser", "--port", str(receiver)])
    assert isinstance(result.exception, UsageError)
    assert f"cannot use port {receiver}" in str(result.exception)
    assert "lorefuse ui --port 5501" in str(result.exception)
