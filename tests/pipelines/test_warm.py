"""Tasks as forks of one process that has imported the heavy libraries."""

import sys
from pathlib import Path

import pytest
from kfp import dsl, local
from kfp.local import config, subprocess_task_handler

from pipelines.warm import warm_tasks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tasks are forked on Linux alone")


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)  # type: ignore[untyped-decorator]
def look(exit_code: int) -> str:
    """Say what a task sees."""
    import os
    import sys

    print("a line of output", flush=True)
    if exit_code:
        sys.exit(exit_code)
    return f"{'feast' in sys.modules} {os.environ['LOREFUSE_LOOK']} {os.getcwd()}"


@pytest.fixture(autouse=True)
def _kfp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.LocalExecutionConfig, "instance", None)
    monkeypatch.chdir(tmp_path)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))


def test_a_task_is_a_fork_with_todays_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started = subprocess_task_handler.run_local_subprocess
    with warm_tasks():
        for word in ("one", "two"):
            monkeypatch.setenv("LOREFUSE_LOOK", word)
            assert look(exit_code=0).output == f"True {word} {tmp_path}"
    assert "a line of output" in capfd.readouterr().out
    assert subprocess_task_handler.run_local_subprocess is started


def test_a_task_that_fails_fails() -> None:
    with warm_tasks(), pytest.raises(RuntimeError, match="FAILURE"):
        look(exit_code=2)
