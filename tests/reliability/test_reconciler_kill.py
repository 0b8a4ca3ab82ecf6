"""The reconciler's process killed at any moment of a promotion: the next one ends where an undisturbed one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorefuse.client import Client
from lorefuse.core.errors import LorefuseError
from lorefuse.core.settings import settings
from tests.helpers.shop import PROJECT_PATH
from tests.reliability.conftest import Harness, Registry, eventually

CONFIG = "poll_s: 0.3\nwatch_s: 0.3\nmax_latency_ratio: 50\nlatency_slack_ms: 500\n"


def reconciler(harness: Harness, path: Path) -> subprocess.Popen[bytes]:
    """Start `lorefuse reconcile` as a user does, in a process of its own."""
    (path / "deployment.yaml").write_text(CONFIG)
    env = {
        **os.environ,
        "LOREFUSE_HOME": str(settings().home_path),
        "LOREFUSE_PROJECT": str(PROJECT_PATH),
        "LOREFUSE_TRITON_URL": harness.supervisor.url,
        "LOREFUSE_SERVE_PYTHON": str(harness.supervisor.python_path),
        "PYTHONPATH": str(PROJECT_PATH),
    }
    command = [sys.executable, "-c", "from lorefuse.cli.main import main; main()", "reconcile"]
    command += ["--config", str(path / "deployment.yaml")]
    with (path / "reconcile.log").open("ab") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=PROJECT_PATH)


def answered(harness: Harness) -> str:
    try:
        with Client(harness.supervisor.url, max_retries=0) as client:
            return client.recommend("u3", 5).model_version
    except LorefuseError:
        return ""


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on(
    harness: Harness, registry: Registry, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    serve_path = settings().serve_path
    serve_path.parent.mkdir(parents=True, exist_ok=True)
    harness.supervisor.serve_path.rmdir()
    object.__setattr__(harness.supervisor, "serve_path", serve_path)
    versions = [registry.publish(bundles[number % 2]) for number in range(4)]
    registry.champion(versions[0])
    process = reconciler(harness, tmp_path)
    try:
        assert eventually(lambda: answered(harness) == versions[0]), (tmp_path / "reconcile.log").read_text()[-2000:]
        for version, pause_s in zip(versions[1:], (0.4, 0.8, 1.3), strict=True):
            registry.champion(version)
            time.sleep(pause_s)
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            assert answered(harness) in versions, "the server goes on without it"
            process = reconciler(harness, tmp_path)
            assert eventually(lambda version=version: answered(harness) == version)
            assert eventually(lambda version=version: registry.tags(version).get("state") == "live")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert answered(harness) == versions[-1]
        assert "Traceback" not in (tmp_path / "reconcile.log").read_text()
    finally:
        process.kill()
