"""A run killed again and again ends with the very numbers and weights of a run that nobody disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lorefuse.core.atomic import sha256_file, sha256_folder
from lorefuse.core.step_cache import STEP_FILE
from tests.helpers.shop import PROJECT_PATH, environment, pipeline, pipeline_command, write_preset, write_shop

pytestmark = pytest.mark.slow

MOMENTS = (
    ("\n  ingest ", 3.0),
    ("\n  training_set ", 1.5),
    ("arm real", 1.0),
    ("arm none", 2.0),
    ("\n  evaluate ", 1.0),
)
"""Kill this many seconds after a run says this: in the middle of a later step."""
START_TIMEOUT_S = 400


def test_killed_runs_end_like_an_undisturbed_one(tmp_path: Path) -> None:
    write_shop(tmp_path / "shop")
    config_path = write_preset(tmp_path / "shop", evaluation__global_cut=False)
    calm_path, killed_path = tmp_path / "calm", tmp_path / "killed"
    calm = pipeline(calm_path, config_path, "--no-deploy")
    assert calm.returncode == 0, calm.stdout + calm.stderr

    for words, pause_s in MOMENTS:
        _kill_after(killed_path, config_path, words, pause_s)
        _assert_finished_steps_are_whole(killed_path)
    again = pipeline(killed_path, config_path, "--no-deploy")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "reused" in again.stdout

    _assert_finished_steps_are_whole(killed_path)
    assert _numbers(_only(killed_path, "evaluate", "metrics.json")) == _numbers(
        _only(calm_path, "evaluate", "metrics.json")
    )
    for step, name in (("bundle", "model.safetensors"), ("features", "vocabularies.json")):
        assert _digests(killed_path, step, name) == _digests(calm_path, step, name)
    assert _registered_auc(again.stdout) == _registered_auc(calm.stdout)


def _kill_after(home_path: Path, config_path: Path, words: str, pause_s: float) -> None:
    """Start a run and kill its whole process group a little after it has said something."""
    said_path = home_path.with_suffix(".out")
    with said_path.open("w") as said:
        process = subprocess.Popen(
            pipeline_command(config_path, "--no-deploy"),
            env=environment(home_path),
            cwd=PROJECT_PATH,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while words not in said_path.read_text("utf-8"):
            assert process.poll() is None, said_path.read_text("utf-8")
            assert time.monotonic() < deadline_s, said_path.read_text("utf-8")
            time.sleep(0.1)
        time.sleep(pause_s)
        assert process.poll() is None, f"the run ended before it could be killed: {said_path.read_text('utf-8')}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _assert_finished_steps_are_whole(home_path: Path) -> None:
    """What a kill leaves behind is a hidden draft; every folder under a step's real name is complete."""
    for path in home_path.glob("cache/steps/*/*"):
        if path.name.startswith("."):
            assert path.name.endswith((".partial", ".old"))
            continue
        finished = json.loads((path / STEP_FILE).read_text("utf-8"))
        assert finished["digest"] == sha256_folder(path), path


def _only(home_path: Path, step: str, name: str) -> dict[str, Any]:
    (path,) = home_path.glob(f"cache/steps/{step}/[!.]*/{name}")
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def _digests(home_path: Path, step: str, name: str) -> list[str]:
    found = sorted(sha256_file(path) for path in home_path.glob(f"cache/steps/{step}/[!.]*/{name}"))
    assert found
    return found


def _numbers(content: Any) -> Any:
    """Drop what a clock decides (seconds, milliseconds); all else must be equal to the last bit."""
    if isinstance(content, dict):
        return {k: _numbers(v) for k, v in content.items() if not k.endswith(("_s", "_ms", "_per_s"))}
    return [_numbers(item) for item in content] if isinstance(content, list) else content


def _registered_auc(said: str) -> str:
    (line,) = (line for line in said.splitlines() if line.startswith("  register"))
    return line.partition("auc_warm ")[2]
