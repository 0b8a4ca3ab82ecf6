"""A trial apart: what kills its process is a failed trial, and parameters come back as they were asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lorefuse.config import PipelineConfig, TrainingConfig, TuningConfig
from lorefuse.core.errors import ArtifactError, ConfigError
from lorefuse.training.params import defaults
from lorefuse.tuning import generations
from lorefuse.tuning.study import TrialTask
from lorefuse.tuning.trial import KILLED, exact, run_apart
from tests.helpers.training_rows import make_training_set, small_config

OFF_SPACE = TrainingConfig(batch_size=64, learning_rate=0.5, weight_decay=0.0, max_epochs=2, num_threads=1)


class _Deadly:
    """Ends the process that unpickles it, as a system short of memory does."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_a_killed_process_is_a_failed_trial() -> None:
    task = TrialTask("nowhere", PipelineConfig(), "real", {"dropout": _Deadly()})
    record = run_apart(task)
    assert (record["state"], record["value"], record["curve"], record["error"]) == ("FAIL", None, [], KILLED)


def test_rows_that_cannot_be_read_end_the_study(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="training set"):
        run_apart(TrialTask(str(tmp_path), small_config(), "real", {}))


def test_a_trial_apart_gives_its_record(tmp_path: Path) -> None:
    make_training_set().save(tmp_path)
    config = small_config(tuning=TuningConfig(num_trials=2))
    record = run_apart(TrialTask(str(tmp_path), config, "real", {"dropout": 0.2}))
    assert record["state"] == "COMPLETE"
    assert record["value"] < 0
    assert record["params"] == {"dropout": 0.2}


def test_parameters_survive_a_pipeline() -> None:
    asked = {"dropout": 0.1 + 0.2, "embedding_dim": 8, "fusion": "concat", "family": "deepfm", "learning_rate": 1e-3}
    floats = {name: float(value) if isinstance(value, int) else value for name, value in asked.items()}
    back = exact(json.loads(json.dumps(floats)))
    assert back == asked
    assert isinstance(back["embedding_dim"], int)
    with pytest.raises(ConfigError, match="no parameter 'depth'"):
        exact({"depth": 3})


@pytest.mark.parametrize(
    ("trials", "parts", "expected"), [(8, 4, [2, 2, 2, 2]), (5, 4, [2, 1, 1, 1]), (1, 3, [1, 0, 0])]
)
def test_generations_divide_the_trials(trials: int, parts: int, expected: list[int]) -> None:
    assert generations.sizes(trials, parts) == expected


def test_a_configuration_outside_of_the_space_is_tried_as_it_is_and_the_study_goes_on() -> None:
    config = small_config(training=OFF_SPACE)
    study = generations.new_study()
    for value in (-1.0, None, -0.5):
        (params,) = generations.ask(study, config, 1)
        state = "FAIL" if value is None else "COMPLETE"
        study = generations.add_results(study, [{"params": params, "state": state, "value": value, "curve": []}])
    records = json.loads(study)["records"]
    assert records[0]["params"] == defaults(config)
    assert [record["state"] for record in records] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert generations.best(study)["number"] == 2


def test_a_study_is_kept_in_a_folder(tmp_path: Path) -> None:
    study = generations.new_study("none")
    generations.save_study(study, tmp_path)
    assert generations.load_study(tmp_path) == study
    (tmp_path / "study.json").write_text('{"arm": "none"}', "utf-8")
    with pytest.raises(ArtifactError, match="no study"):
        generations.load_study(tmp_path)
