"""The serving runtime: what is missing is named, with the command that brings it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lorefuse.core.errors import DeployError, UsageError
from lorefuse.deploy.deploy import status
from lorefuse.deploy.ports import Ports, free_ports
from lorefuse.deploy.runtime import find_runtime
from lorefuse.deploy.supervisor import Supervisor, _keep_old


def test_no_environment(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="make setup"):
        find_runtime(tmp_path / "python", tmp_path / "runtime")


def test_an_environment_without_triton(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="make setup"):
        find_runtime(Path(sys.executable), tmp_path / "runtime")


def test_ports_come_from_the_url() -> None:
    assert Ports.from_url("127.0.0.1:9001") == Ports(9000, 9001, 9002)


@pytest.mark.parametrize("url", ["10.0.0.1:8601", "127.0.0.1", "127.0.0.1:x", ":8601", "localhost:70000"])
def test_another_machine_is_not_ours_to_start(url: str) -> None:
    with pytest.raises(UsageError, match="on this machine alone"):
        Ports.from_url(url)


def test_free_ports_differ() -> None:
    ports = free_ports()
    assert len({ports.http, ports.grpc, ports.metrics}) == 3


@pytest.mark.parametrize("text", [None, "", "{}", '{"pid": 1, "create_time": 0, "ports": {}}', '{"pid": "x"}'])
def test_a_stale_pid_file_is_nobody(tmp_path: Path, text: str | None) -> None:
    supervisor = Supervisor(tmp_path, Ports(), Path(sys.executable))
    if text is not None:
        (tmp_path / "triton.json").write_text(text)
    assert supervisor.process() is None
    assert not status(supervisor)["running"]
    assert not supervisor.stop()
    assert not (tmp_path / "triton.json").exists()


def test_logs_of_earlier_starts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "triton.log"
    for number in range(8):
        _keep_old(path)
        path.write_text(str(number))
    found = {one.name: one.read_text() for one in tmp_path.iterdir()}
    assert found == {"triton.log": "7", **{f"triton.log.{age}": str(7 - age) for age in (1, 2, 3, 4)}}
