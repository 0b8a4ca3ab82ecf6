"""Real PostgreSQL and Redis, and moto's stand-in for S3, each on a spare port with a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
PASSWORD = "s3cret:for@tests"
BUCKET = "lorefuse-test"
START_TIMEOUT_S = 60
DATABASES = ("mlflow", "feast", "optuna")


def spare_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


def find_postgres() -> Path | None:
    """Folder of PostgreSQL's own programs; Debian keeps them off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return folders[-1] if folders else None


@dataclass
class Server:
    """A server process that can be stopped and started again on the same port and folder."""

    name: str
    command: list[str]
    folder_path: Path
    port: int
    answers: Callable[[], object]
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log_path = self.folder_path / "server.log"
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **self.environment}
            )
        end_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end_s:
            try:
                self.answers()
                return
            except Exception as error:  # whatever its client raises while it starts
                last = error
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"{self.name} did not start: {last}\n{log_path.read_text()[-2000:]}")

    def stop(self) -> None:
        """End this very process; its data stay."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
        self.process = None


def postgres(folder_path: Path) -> Server:
    """Make a cluster with a password and the databases of `DATABASES`. PostgreSQL refuses to run as root."""
    import psycopg

    programs_path, port = find_postgres(), spare_port()
    assert programs_path is not None
    data_path, password_path = folder_path / "data", folder_path / "password"
    password_path.write_text(PASSWORD)
    drop: list[str] = []
    if os.geteuid() == 0:
        drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        for path in (folder_path, password_path):
            shutil.chown(path, "postgres", "postgres")
    made = [str(programs_path / "initdb"), "-D", str(data_path), "-U", "lorefuse", "--auth=scram-sha-256", "--no-sync"]
    subprocess.run(
        [*drop, *made, f"--pwfile={password_path}", "--encoding=UTF8", "--locale=C"], check=True, capture_output=True
    )
    options = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",
        "shared_buffers": "32MB",
    }
    flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    url = postgres_url(port)

    def answers() -> None:
        psycopg.connect(f"{url}/postgres", connect_timeout=2).close()

    command = [*drop, str(programs_path / "postgres"), "-D", str(data_path), *flags]
    # SIGTERM would wait for every client to leave.
    server = Server("PostgreSQL", command, folder_path, port, answers, stop_signal=signal.SIGINT)
    server.start()
    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        for name in DATABASES:
            connection.execute(f'CREATE DATABASE "{name}"')
    return server


def postgres_url(port: int) -> str:
    from urllib.parse import quote

    return f"postgresql://lorefuse:{quote(PASSWORD, safe='')}@{HOST}:{port}"


def redis_server(folder_path: Path) -> Server:
    """Keeps nothing on disk: stopped and started again it is empty, as a cache that was lost."""
    import redis

    port = spare_port()
    options = {"bind": HOST, "port": str(port), "requirepass": PASSWORD, "dir": str(folder_path), "save": ""}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]

    def answers() -> None:
        with redis.Redis(HOST, port, password=PASSWORD, retry=None) as client:
            client.ping()

    server = Server("Redis", ["redis-server", *flags, "--appendonly", "no"], folder_path, port, answers)
    server.start()
    return server


def redis_url(port: int, database: int = 0) -> str:
    from urllib.parse import quote

    return f"redis://:{quote(PASSWORD, safe='')}@{HOST}:{port}/{database}"


S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def moto_server(folder_path: Path) -> Server:
    """moto's server speaks S3 and keeps objects in memory: a stand-in, not an object store."""
    import boto3

    port = spare_port()

    def client() -> object:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=f"http://{HOST}:{port}", **keys)

    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    server = Server("moto", command, folder_path, port, lambda: client().list_buckets(), dict(S3_KEYS))  # type: ignore[attr-defined]
    server.start()
    client().create_bucket(Bucket=BUCKET)  # type: ignore[attr-defined]
    return server
