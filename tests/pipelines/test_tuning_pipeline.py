"""The tuning pipeline through kfp's local runner: killed, resumed, with a trial that fails; then its studies are used.

The undisturbed study that it is held to is a plain loop of ask, train, tell in this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorefuse import steps
from lorefuse.config import PipelineConfig, load_config
from lorefuse.core.errors import ConfigError
from lorefuse.steps import dump_config
from lorefuse.tuning import generations
from lorefuse.tuning.study import TrialTask, read_study, run_task
from tests.helpers.shop import PROJECT_PATH, environment, lorefuse, pipeline_command, write_preset

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("shared-shop")]

NUM_TRIALS, NUM_GENERATIONS = 2, 4
"""Fewer trials than generations: the last ones have nothing left to try."""
BROKEN_DECAY = 1e30
"""Weights that shrink this fast overflow: the first trial, which is the configuration itself, diverges."""


@pytest.fixture(scope="module")
def config_path(shared_shop: Path) -> Path:
    return write_preset(shared_shop / "data", tuning__num_trials=NUM_TRIALS, training__weight_decay=BROKEN_DECAY)


@pytest.fixture(scope="module")
def home_path(shared_shop: Path, config_path: Path) -> Path:
    """A home in which the pipeline was killed after its first trial, and then run to its end."""
    home_path = shared_shop / "home"
    _kill_after("\n  run_trial ", home_path, config_path)
    again = lorefuse(home_path, "tune", "--config", str(config_path))
    assert again.returncode == 0, again.stdout + again.stderr
    (shared_shop / "tune.out").write_text(again.stdout, "utf-8")
    return home_path


def _kill_after(words: str, home_path: Path, config_path: Path) -> None:
    said_path = home_path.with_suffix(".out")
    with said_path.open("w") as said:
        process = subprocess.Popen(
            pipeline_command(config_path, "--pipeline", "tuning"),
            env=environment(home_path),
            cwd=PROJECT_PATH,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + 400
        while words not in said_path.read_text("utf-8"):
            assert process.poll() is None, said_path.read_text("utf-8")
            assert time.monotonic() < deadline_s, said_path.read_text("utf-8")
            time.sleep(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _rows_path(home_path: Path) -> Path:
    """Return the training set of the newest trial: a refresh in the same home may have made a later one."""
    paths = home_path.glob("cache/steps/*/*/.step.json")
    records = {path.parent: json.loads(path.read_text("utf-8")) for path in paths}
    trials = [path for path, record in records.items() if record["step"] == "trial"]
    digest = records[max(trials, key=lambda path: path.stat().st_mtime)]["inputs"]["training_set"]
    return next(path for path, r in records.items() if r["step"] == "training_set" and r["digest"] == digest)


def _plain_loop(config: PipelineConfig, arm: Any, rows_path: Path) -> str:
    """Ask, train and tell in this process, as the pipeline is meant to."""
    study = generations.new_study(arm)
    for size in generations.sizes(config.tuning.num_trials, NUM_GENERATIONS):
        asked = generations.ask(study, config, size) if size else []
        study = generations.add_results(
            study, [run_task(TrialTask(str(rows_path), config, arm, params)) for params in asked]
        )
    return study


def _comparable(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in trial.items() if name != "duration_s"} for trial in trials]


def test_a_killed_study_goes_on_and_says_what_it_reused(home_path: Path) -> None:
    said = (home_path.parent / "tune.out").read_text("utf-8")
    words = re.findall(r"^  run_trial +(built|reused)", said, re.MULTILINE)
    assert len(words) == 2 * NUM_TRIALS
    assert "reused" in words
    assert f"tuning.studies_path: {home_path / 'tuning' / 'shop'}" in said


@pytest.mark.parametrize("arm", ["real", "none"])
def test_pipeline_finds_what_a_plain_loop_finds(home_path: Path, config_path: Path, arm: str) -> None:
    rows_path = _rows_path(home_path)
    expected = _plain_loop(load_config(config_path), arm, rows_path)
    found = read_study(home_path / "tuning" / "shop" / arm)
    assert _comparable(found["trials"]) == _comparable(json.loads(expected)["records"])
    assert found["best_params"] == generations.best(expected)["params"]
    assert found["best_value"] == generations.best(expected)["value"]


def test_a_failed_trial_is_told_and_does_not_end_the_study(home_path: Path) -> None:
    trials = read_study(home_path / "tuning" / "shop" / "real")["trials"]
    assert [trial["state"] for trial in trials] == ["FAIL", "COMPLETE"]
    assert trials[0]["params"]["weight_decay"] == BROKEN_DECAY
    assert trials[0]["value"] is None


def test_the_training_pipeline_takes_the_studies_over(
    home_path: Path, config_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOREFUSE_HOME", str(home_path))
    content = yaml.safe_load(config_path.read_text("utf-8"))
    content["tuning"]["studies_path"] = "../home/tuning/shop"
    tuned_path = config_path.with_name("tuned.yaml")
    tuned_path.write_text(yaml.safe_dump(content), "utf-8")
    config = load_config(tuned_path)
    rows_path = _rows_path(home_path)
    for arm in ("real", "none"):
        result = steps.tune(dump_config(config), arm, rows_path)
        assert read_study(result.path) == read_study(home_path / "tuning" / "shop" / arm)
    with pytest.raises(SystemExit, match="2"):
        steps.tune(dump_config(config.model_copy(update={"tuning": _without(config)})), "real", rows_path)


def _without(config: PipelineConfig) -> Any:
    return config.tuning.model_copy(update={"studies_path": Path("/nowhere")})


def test_pipeline_compiles(tmp_path: Path) -> None:
    from kfp import compiler

    from pipelines.tuning import NUM_GENERATIONS as COMPILED
    from pipelines.tuning import tuning

    compiler.Compiler().compile(tuning, str(tmp_path / "tuning.yaml"))
    spec, *_ = yaml.safe_load_all((tmp_path / "tuning.yaml").read_text("utf-8"))
    loops = [task for task in spec["root"]["dag"]["tasks"].values() if "parameterIterator" in task]
    assert len(loops) == 2 * COMPILED == 2 * NUM_GENERATIONS
    assert {loop["taskInfo"]["name"] for loop in loops} >= {"real-generation-0", "none-generation-3"}


def test_a_folder_without_studies_is_the_users_mistake(tmp_path: Path) -> None:
    from lorefuse.tuning.study import adopt_study

    with pytest.raises(ConfigError, match="holds no finished study of arm real"):
        adopt_study(tmp_path, "real", tmp_path)
