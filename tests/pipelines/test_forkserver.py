"""Tasks as forks of one process that has imported the heavy libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import dsl, local
from kfp.local import config, subprocess_task_handler

from pipelines.forkserver import warm_tasks
from pipelines.run import _address

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


def test_a_run_that_was_made_before_imports_nothing_heavy(tmp_path: Path) -> None:
    """In a process of its own: the fork server of this one may have torch in it."""
    code = (
        "import multiprocessing, sys\n"
        "from pipelines.forkserver import warm_tasks\n"
        "def see(sent): sent.send([name in sys.modules for name in ('torch', 'feast', 'lorefuse.steps')])\n"
        "if __name__ == '__main__':\n"
        "    with warm_tasks(heavy=False):\n"
        "        context = multiprocessing.get_context('forkserver')\n"
        "        seen, sent = context.Pipe(duplex=False)\n"
        "        context.Process(target=see, args=(sent,)).start()\n"
        "        print(seen.recv())\n"
    )
    script_path = tmp_path / "look.py"
    script_path.write_text(code, "utf-8")
    project_path = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(project_path)}
    done = subprocess.run([sys.executable, script_path], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[False, False, True]", done.stderr


def test_a_run_is_told_from_another_by_what_it_reads(tmp_path: Path) -> None:
    data_path = tmp_path / "rows.csv"
    data_path.write_text("a", "utf-8")
    asked = {"config": {"data": {"paths": [str(data_path)]}, "text": "x" * 5000, "nul": "\0"}, "serve": True}
    first = _address("training", asked)
    assert first == _address("training", asked)
    data_path.write_text("ab", "utf-8")
    assert first != _address("training", asked)
    assert first != _address("training", {**asked, "serve": False})


def test_a_task_that_fails_fails() -> None:
    with warm_tasks(), pytest.raises(RuntimeError, match="FAILURE"):
        look(exit_code=2)
