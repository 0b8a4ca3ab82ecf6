"""What decides: AUC of warm and cold rows by hand, errors in units of the label, and what goes wrong."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from lorefuse.auto.race import DONE, FAILED, NOT_TRIED
from lorefuse.auto.trial import MIN_COLD, RaceTask, run_trial, score_of
from lorefuse.config import PipelineConfig, parse_config
from tests.helpers.feature_world import World
from tests.helpers.race_rows import rows_of

SMALL = parse_config({"model": {"hidden_dims": [4], "embedding_dim": 2}, "training": {"max_epochs": 1}})


def test_cold_rows_count_where_there_are_enough() -> None:
    figures = {"auc_warm": 0.8, "auc_cold": 0.6, "num_cold": float(MIN_COLD), "validation_score": -0.5}
    assert score_of(figures) == pytest.approx(0.7)
    assert score_of(figures | {"num_cold": MIN_COLD - 1.0}) == pytest.approx(0.8)
    assert score_of(figures | {"auc_warm": float("nan"), "num_cold": 0.0}) == pytest.approx(-0.5)
    assert score_of({"rmse_warm": 0.9, "rmse_cold": 1.1, "num_cold": 50.0}) == pytest.approx(-1.0)


def _task(rows_path: Path, config: PipelineConfig = SMALL, deadline_s: float = np.inf) -> RaceTask:
    return RaceTask("one", str(rows_path), config, 1.0, 0, deadline_s)


def test_a_trial_has_figures_or_says_what_went_wrong(world: World, tmp_path: Path) -> None:
    made = rows_of(world)
    made.save(tmp_path)
    done = run_trial(_task(tmp_path))
    assert (done.state, done.error) == (DONE, "")
    assert done.score is not None
    assert done.figures["num_epochs"] == 1
    assert run_trial(_task(tmp_path)).score == done.score, "the same seed, the same score"
    assert run_trial(_task(tmp_path, deadline_s=time.time() - 1)).state == NOT_TRIED
    broken = SMALL.model_copy(update={"training": SMALL.training.model_copy(update={"device": "nowhere"})})
    failed = run_trial(_task(tmp_path, broken))
    assert failed.state == FAILED
    assert "nowhere" in failed.error
