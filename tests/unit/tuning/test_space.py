from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from lorefuse.config import DeepFMConfig, PipelineConfig, TrainingConfig, TuningConfig
from lorefuse.errors import DivergedError
from lorefuse.training.params import defaults
from lorefuse.tuning import study
from lorefuse.tuning.space import RANGES, nearest, suggest
from lorefuse.tuning.study import read_study, tune
from tests.unit.training.samples import make_training_set, small_config


@pytest.fixture
def training_set_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(study, "TRIALS_AT_A_TIME", 1)  # trains in this process
    path = tmp_path / "training_set"
    path.mkdir()
    make_training_set().save(path)
    (tmp_path / "out").mkdir()
    return path


def _config(num_trials: int, **training: float) -> PipelineConfig:
    made = {"batch_size": 64, "max_epochs": 1, "num_threads": 1, **training}
    model = DeepFMConfig(embedding_dim=4, hidden_dims=(8,), dropout=0.0, id_dropout=0.0)
    return small_config(model=model, training=TrainingConfig(**made), tuning=TuningConfig(num_trials=num_trials))


def test_draws_stay_in_range() -> None:
    drawn = [suggest(optuna.create_study().ask()) for _ in range(20)]
    for name, (low, high, _) in RANGES.items():
        assert all(low <= params[name] <= high for params in drawn)
    assert set(RANGES) == set(defaults(PipelineConfig()))


def test_defaults_lie_in_the_space_and_nearest_leaves_them_alone() -> None:
    assert nearest(defaults(PipelineConfig())) == defaults(PipelineConfig())
    far = nearest({"learning_rate": 1.0, "weight_decay": 0.0, "embedding_l2": 9.0, "dropout": 0.0, "id_dropout": 0.9})
    assert far == {"learning_rate": 4e-3, "weight_decay": 3e-2, "embedding_l2": 1.0, "dropout": 0.1, "id_dropout": 0.3}


def test_a_configuration_outside_of_the_space_is_tried_as_it_is(training_set_path: Path, tmp_path: Path) -> None:
    config = _config(12, weight_decay=0.0, learning_rate=0.02)  # enough trials for the sampler to look back at them
    tune(training_set_path, config, "real", tmp_path / "out")
    trials = read_study(tmp_path / "out")["trials"]
    assert trials[0]["params"] == defaults(config)
    assert trials[0]["params"]["weight_decay"] == 0
    assert len(trials) == 12


def test_a_trial_that_diverges_fails_alone(training_set_path: Path, tmp_path: Path) -> None:
    journal_path = tmp_path / "journal.json"
    config = _config(3, learning_rate=1.0, weight_decay=1e30)
    summary = tune(training_set_path, config, "real", tmp_path / "out", journal_path)
    trials = read_study(tmp_path / "out")["trials"]
    assert [trial["state"] for trial in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert trials[0]["value"] is None
    assert summary["best_value"] == round(max(trial["value"] for trial in trials[1:]), 5)
    (tmp_path / "again").mkdir()
    tune(training_set_path, config, "real", tmp_path / "again", journal_path)
    assert read_study(tmp_path / "again")["trials"] == trials  # durations too: nothing was trained again


def test_a_study_without_a_finite_loss_says_so(training_set_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"(?s)No trial.*learning_rate"):
        tune(training_set_path, _config(1, learning_rate=1.0, weight_decay=1e30), "real", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
