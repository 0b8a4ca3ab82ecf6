from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorefuse.config import Arm, PipelineConfig, TrainingConfig, TuningConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.training import pool
from lorefuse.training.params import apply, defaults
from lorefuse.tuning import study
from lorefuse.tuning.journal import FileJournal
from lorefuse.tuning.study import STUDY_FILE, read_study, tune
from tests.helpers.training_rows import make_training_set, small_config

NUM_TRIALS = 5
"""More than two rounds, and an odd one."""


@pytest.fixture(scope="module")
def training_set_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training_set")
    make_training_set().save(path)
    return path


@pytest.fixture(autouse=True)
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Train in this process, and note what was trained."""
    noted: list[dict[str, float]] = []

    def run(function: Any, tasks: Any, num_workers: int) -> Any:
        noted.extend(task.params for task in tasks)
        return pool.run_parallel(function, tasks, 1)

    monkeypatch.setattr(study, "run_parallel", run)
    return noted


def _config(num_trials: int = NUM_TRIALS) -> PipelineConfig:
    training = TrainingConfig(batch_size=64, learning_rate=0.004, max_epochs=2, num_threads=1)
    return small_config(tuning=TuningConfig(num_trials=num_trials), training=training)


def _tune(
    training_set_path: Path,
    out_path: Path,
    arm: Arm = "real",
    journal_path: Path | None = None,
    num_trials: int = NUM_TRIALS,
) -> list[dict[str, Any]]:
    """Run a study and return its trials without their durations."""
    out_path.mkdir()
    journal = FileJournal(journal_path) if journal_path is not None else None
    tune(training_set_path, _config(num_trials), arm, out_path, journal)
    return _without_durations(read_study(out_path)["trials"])


def _without_durations(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in trial.items() if name != "duration_s"} for trial in trials]


def test_the_first_trial_is_the_configuration_and_the_best_is_kept(training_set_path: Path, tmp_path: Path) -> None:
    summary = tune(training_set_path, _config(), "real", tmp_path)
    content = read_study(tmp_path)
    trials = content["trials"]
    assert trials[0]["params"] == defaults(_config())
    assert [trial["number"] for trial in trials] == list(range(NUM_TRIALS))
    assert summary["num_trials"] == NUM_TRIALS
    assert len({json.dumps(trial["params"]) for trial in trials}) == NUM_TRIALS
    best = max(trials, key=lambda trial: trial["value"])
    assert (content["best_params"], content["best_value"]) == (best["params"], best["value"])
    assert summary["best_params"] == best["params"]
    assert content["arm"] == "real"


def test_every_arm_gets_the_same_number_of_trials(training_set_path: Path, tmp_path: Path) -> None:
    real, none = (_tune(training_set_path, tmp_path / arm, arm) for arm in ("real", "none"))
    assert len(real) == len(none) == NUM_TRIALS
    assert [trial["params"] for trial in real[:2]] == [trial["params"] for trial in none[:2]]  # drawn before any answer
    assert real[0]["value"] != none[0]["value"]


def test_a_study_repeats_itself(training_set_path: Path, tmp_path: Path) -> None:
    assert _tune(training_set_path, tmp_path / "a") == _tune(training_set_path, tmp_path / "b")


@pytest.mark.parametrize("num_finished", [0, 1, 2, 4])
def test_a_killed_study_ends_as_an_undisturbed_one(
    training_set_path: Path, tmp_path: Path, trained: list[dict[str, float]], num_finished: int
) -> None:
    journal_path = tmp_path / "journal.json"
    whole = _tune(training_set_path, tmp_path / "whole", journal_path=journal_path)
    write_json(journal_path, json.loads(journal_path.read_text("utf-8"))[:num_finished])
    trained.clear()
    assert _tune(training_set_path, tmp_path / "resumed", journal_path=journal_path) == whole
    assert len(trained) == NUM_TRIALS - num_finished // 2 * 2  # whole rounds are not trained again
    assert _without_durations(json.loads(journal_path.read_text("utf-8"))) == whole


def test_a_killed_process_resumes_where_it_stopped(
    training_set_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[dict[str, float]]
) -> None:
    whole = _tune(training_set_path, tmp_path / "whole")
    run, rounds = study.run_parallel, iter([True, True, False])

    def killed(*args: Any) -> Any:
        if not next(rounds):
            raise KeyboardInterrupt
        return run(*args)

    with monkeypatch.context() as patch:
        patch.setattr(study, "run_parallel", killed)
        with pytest.raises(KeyboardInterrupt):
            _tune(training_set_path, tmp_path / "killed", journal_path=tmp_path / "journal.json")
    assert not (tmp_path / "killed" / STUDY_FILE).exists()
    trained.clear()
    assert _tune(training_set_path, tmp_path / "resumed", journal_path=tmp_path / "journal.json") == whole
    assert len(trained) == 1


def test_a_journal_of_other_parameters_is_ignored(
    training_set_path: Path, tmp_path: Path, trained: list[dict[str, float]]
) -> None:
    journal_path = tmp_path / "journal.json"
    whole = _tune(training_set_path, tmp_path / "whole", journal_path=journal_path)
    records = json.loads(journal_path.read_text("utf-8"))
    records[2]["params"]["dropout"] += 0.01
    records[2]["value"] = 99.0
    write_json(journal_path, records)
    trained.clear()
    assert _tune(training_set_path, tmp_path / "resumed", journal_path=journal_path) == whole
    assert len(trained) == 2  # its round; the rounds before and after stand


@pytest.mark.parametrize("text", ["", "[{", '{"trials": []}', "null", "[1, 2]", '[{"params": {}}, {"params": {}}]'])
def test_a_broken_journal_is_ignored(training_set_path: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "journal.json").write_text(text, "utf-8")
    trials = _tune(training_set_path, tmp_path / "out", journal_path=tmp_path / "journal.json")
    assert len(trials) == NUM_TRIALS


def test_trials_side_by_side_are_as_one_by_one(
    training_set_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = _tune(training_set_path, tmp_path / "serial", num_trials=2)
    monkeypatch.setattr(study, "run_parallel", pool.run_parallel)
    assert _tune(training_set_path, tmp_path / "parallel", num_trials=2) == serial


def test_parameters_land_where_they_belong() -> None:
    config = _config()
    model, training = apply(config, {**defaults(config), "dropout": 0.35, "learning_rate": 0.003})
    assert (model.dropout, training.learning_rate) == (0.35, 0.003)
    assert model.hidden_dims == config.model.hidden_dims
    assert apply(config, defaults(config)) == (config.model, config.training)


@pytest.mark.parametrize("text", [None, "", "[{"])
def test_half_a_study_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / STUDY_FILE).write_text(text, "utf-8")
    with pytest.raises(ArtifactError, match="no complete study"):
        read_study(tmp_path)


def test_pruned_trials_and_folds_in_a_joint_study(training_set_path: Path, tmp_path: Path) -> None:
    tuning = TuningConfig(num_trials=6, space="joint", families=("deepfm", "fm"), pruning=True, num_folds=2)
    training = TrainingConfig(batch_size=64, learning_rate=0.004, max_epochs=4, patience=4, num_threads=1)
    config = small_config(tuning=tuning, training=training)
    out_path = tmp_path / "joint"
    out_path.mkdir()
    tune(training_set_path, config, "real", out_path)
    trials = read_study(out_path)["trials"]
    assert len(trials) == 6
    assert {trial["params"]["family"] for trial in trials} <= {"deepfm", "fm"}
    assert all(trial["state"] in ("COMPLETE", "PRUNED") for trial in trials)
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    assert read_study(out_path)["best_value"] == max(trial["value"] for trial in complete)
    assert all(trial["curve"] for trial in trials)
    model, _ = apply(config, read_study(out_path)["best_params"])
    assert model.family in ("deepfm", "fm")
