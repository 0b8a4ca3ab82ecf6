"""MLflow's own server, for people: bound to this machine, one worker, with a pid file and a log in the home.

A machine may have other users, so it wants a login: its password is a file of the home that its owner alone can read.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from lorefuse.core.atomic import write_json
from lorefuse.core.errors import UnreachableError, UsageError
from lorefuse.core.processes import identity
from lorefuse.core.profiles import mask
from lorefuse.core.settings import settings
from lorefuse.registry.access.hosts import HOSTS_VARIABLE, LOCAL_HOSTS, listed_hosts
from lorefuse.registry.local_store import SQLITE, artifacts_path, create_store, is_server
from lorefuse.registry.own_server import (
    DEFAULT_PORT,
    HOST,
    USER,
    kept_secret,
    own_login,
    password_path,
    pid_path,
    read_pid,
)

_APP, PASSWORD_VARIABLE = "lorefuse.registry.access.local:app", "_LOREFUSE_MLFLOW_PASSWORD"
_KEPT = frozenset(
    {"HOME", "USER", "LOGNAME", "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SHELL", "PYTHONPATH", "VIRTUAL_ENV"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "LOREFUSE_HOME"}
    | {"http_proxy", "https_proxy", "no_proxy"}
)
_KEPT_PREFIXES = ("LC_", "MLFLOW_", "AWS_", "PG", "GOOGLE_", "AZURE_")
"""Variables that MLflow, its database or its artifact store read."""
START_TIMEOUT_S, STOP_TIMEOUT_S = 90, 15


@dataclass(frozen=True)
class ServerStatus:
    """The MLflow server of this home.

    Attributes:
        running: Whether it answers.
        url: Where.
        pid: Its process; 0 where it is another's server or none.
        log_path: What it prints.
    """

    running: bool
    url: str
    pid: int
    log_path: Path

    @property
    def login(self) -> str:
        """Whom a browser has to say, for people; empty where the server is another's."""
        return f"user {USER}, password in {password_path()}" if self.pid else ""


def start(port: int = DEFAULT_PORT, *, open_browser: bool = False) -> ServerStatus:
    """Start the MLflow server in the background, or return the one that runs already.

    Where `MLFLOW_TRACKING_URI` names a server, that one is shown and nothing is started.

    Args:
        port: TCP port on 127.0.0.1.
        open_browser: Also open the UI in the browser.

    Raises:
        UsageError: The port is taken by another program.
        UnreachableError: The server did not answer within 90 seconds, or died; the log's end is in the message.
    """
    uri, found = settings().tracking_uri, where()
    # One that an earlier version of Lorefuse started lets anybody in: it is started anew.
    if not is_server(uri) and not (found.running and (read_pid() or {}).get("login")):
        stop()
        found = _launch(uri, port)
    if open_browser:
        webbrowser.open(found.url)
    return found


def where() -> ServerStatus:
    """Return the server that is used: the one that the settings name, else this home's."""
    uri = settings().tracking_uri
    anothers = is_server(uri) and own_login(uri) is None
    return ServerStatus(_answers(uri), mask(uri), 0, _log_path()) if anothers else status()


def status() -> ServerStatus:
    """Return whether this home's server runs, and where."""
    known = read_pid()
    if known is None:
        return ServerStatus(False, f"http://{HOST}:{DEFAULT_PORT}", 0, _log_path())
    url = f"http://{HOST}:{known['port']}"
    return ServerStatus(_answers(url), url, int(known["pid"]), _log_path())


def stop() -> bool:
    """Stop this home's server; returns whether one was running. Any other process is left alone."""
    import psutil

    known = read_pid()
    pid_path().unlink(missing_ok=True)
    if known is None:
        return False
    process = psutil.Process(int(known["pid"]))
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(STOP_TIMEOUT_S)
    return True


def _launch(uri: str, port: int) -> ServerStatus:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"The MLflow server cannot use port {port}.", got=str(error), fix="use another: lorefuse ui --port 5501"
            ) from None
    if uri.startswith(SQLITE):
        create_store(Path(uri.removeprefix(SQLITE)), artifacts_path())
    _log_path().parent.mkdir(parents=True, exist_ok=True)
    environment = _environment(uri)
    # uvicorn on MLflow's app: one worker, where `mlflow server` would start four, and so several times faster.
    command = [sys.executable, "-m", "uvicorn", "--host", HOST, "--port", str(port), _APP]
    with _log_path().open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  (our own interpreter and fixed arguments)
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    write_json(pid_path(), {"pid": process.pid, "identity": identity(process.pid), "port": port, "login": USER})
    url, deadline_s = f"http://{HOST}:{port}", time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if _answers(url):
            return ServerStatus(True, url, process.pid, _log_path())
        if process.poll() is not None:
            break
        time.sleep(0.2)
    stop()
    tail = _log_path().read_text("utf-8", errors="replace")[-800:]
    raise UnreachableError(
        "The MLflow server did not start.",
        expected=f"an answer from {url} within {START_TIMEOUT_S} s",
        got=tail,
        fix=f"read {_log_path()}",
    )


def _environment(uri: str) -> dict[str, str]:
    """Return what the server needs; nothing else of this process's environment, which may hold other secrets."""
    artifacts_path().mkdir(parents=True, exist_ok=True)
    kept = {name: text for name, text in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return {
        **kept,
        "_MLFLOW_SERVER_FILE_STORE": uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": settings().artifacts_uri or str(artifacts_path()),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        PASSWORD_VARIABLE: kept_secret(password_path()),
        **webhook_environment(),
    }


def webhook_environment() -> dict[str, str]:
    """Let MLflow tell a reconciler on this machine about aliases, and nobody else.

    Webhooks' secrets are encrypted with a key; without one of ours each start of the server would make its own, and
    deliveries would end with a line in its log. Plain http to this machine is what both of them, bound to it, speak.
    """
    defaults = {
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": kept_secret(settings().home_path / "mlflow" / "webhook.key"),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "5",  # seconds until a webhook that was just registered takes effect; 60 by default
        HOSTS_VARIABLE: LOCAL_HOSTS,
    }
    listed_hosts()  # a list that cannot be read is said here, and not in the server's log
    return {name: os.environ.get(name, text) for name, text in defaults.items()}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=3) as answer:  # noqa: S310  (http only)
            return int(answer.status) == 200
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _log_path() -> Path:
    return settings().home_path / "mlflow" / "server.log"
