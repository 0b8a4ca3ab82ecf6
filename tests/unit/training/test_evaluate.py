from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lorefuse.config import EvaluationConfig, PipelineConfig
from lorefuse.core.errors import ConfigError, DataError
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.models.build import load_ranker
from lorefuse.training import evaluate, pool
from lorefuse.training.evaluate import RANKER_FOLDER, run_arms
from lorefuse.training.params import defaults
from lorefuse.training.row_metrics import auc
from lorefuse.training.summary import ARM_RANKERS_FOLDER, verdict
from lorefuse.training.train import score_rows
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import make_training_set, small_config

TRIALS = {"real": [{"number": 0, "value": -0.5}], "none": [{"number": 0, "value": -0.6}]}


def _sets(path: Path, **kwargs: Any) -> dict[str, Path]:
    paths = {"per_user_time": path / "per_user", "global_time": path / "global"}
    for seed, each in enumerate(paths.values()):
        each.mkdir(parents=True)
        make_training_set(num_rows=400, seed=seed, **kwargs).save(each)
    return paths


def _run(paths: dict[str, Path], config: PipelineConfig, out_path: Path) -> dict[str, Any]:
    out_path.mkdir()
    return run_arms(paths, {arm: defaults(config) for arm in TRIALS}, TRIALS, config, out_path)


def _without_durations(metrics: dict[str, Any]) -> dict[str, Any]:
    for split in metrics["splits"].values():
        for arm in split["arms"].values():
            del arm["train_s"]
    return metrics


def _serial(function: Any, tasks: Any, num_workers: int | None = None) -> Any:
    return pool.run_parallel(function, tasks, 1)


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], PipelineConfig, Path]:
    """Every arm and seed of two splits, in two processes."""
    path = tmp_path_factory.mktemp("evaluation")
    paths, config = _sets(path), small_config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "run_parallel", lambda function, tasks, _: pool.run_parallel(function, tasks, 2))
        _run(paths, config, path / "out")
    return paths, config, path / "out"


def _metrics(out_path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out_path / "metrics.json").read_text("utf-8"))
    return content


def test_layout(parallel: tuple[dict[str, Path], PipelineConfig, Path]) -> None:
    _, config, out_path = parallel
    metrics = _metrics(out_path)
    assert {path.name for path in out_path.iterdir()} == {
        "metrics.json",
        "history.json",
        "trials.json",
        "user_scores.parquet",
        RANKER_FOLDER,
        ARM_RANKERS_FOLDER,
    }
    assert {path.name for path in (out_path / ARM_RANKERS_FOLDER).iterdir()} == {"none", "shuffled"}
    assert (metrics["k"], metrics["label_kind"], metrics["seeds"]) == (3, "binary", [0, 1])
    assert metrics["best_params"] == {"real": defaults(config), "none": defaults(config)}
    assert set(metrics["splits"]) == {"per_user_time", "global_time"}
    assert set(metrics["splits"]["per_user_time"]["arms"]) == {"real", "none", "shuffled"}
    assert set(metrics["splits"]["global_time"]["arms"]) == {"real", "none"}  # only: does knowledge hurt there?
    for arm in metrics["splits"]["per_user_time"]["arms"].values():
        assert len(arm["train_s"]) == len(arm["num_epochs"]) == 2
        for part in ("validation", "test"):
            assert {"auc_warm", "gauc_cold", "logloss_all", "ndcg_at_3_warm", "recall_at_3_all"} <= set(arm[part])
            for value in arm[part].values():
                values = np.array(value["values"], dtype=np.float64)  # null is NaN
                assert np.array(value["mean"], dtype=np.float64) == pytest.approx(values.mean(), nan_ok=True)
                assert np.array(value["std"], dtype=np.float64) == pytest.approx(values.std(ddof=1), nan_ok=True)
    assert metrics["counts"] == {"train": 280, "validation": 60, "test": 60} | {
        name: metrics["counts"][name] for name in ("test_warm", "test_cold")
    }
    assert metrics["counts"]["test_warm"] + metrics["counts"]["test_cold"] == 60
    history = json.loads((out_path / "history.json").read_text("utf-8"))
    assert set(history) == {f"per_user_time/{arm}" for arm in ("real", "none", "shuffled")} | {
        f"global_time/{arm}" for arm in ("real", "none")
    }
    assert json.loads((out_path / "trials.json").read_text("utf-8")) == TRIALS


def test_differences_are_intervals_and_verdicts_follow_them(
    parallel: tuple[dict[str, Path], PipelineConfig, Path],
) -> None:
    for split in _metrics(parallel[2])["splits"].values():
        assert set(split["differences"]) == set(split["arms"]) - {"real"}
        for difference in split["differences"].values():
            assert set(difference) == {f"{n}_{s}" for n in ("auc", "gauc", "logloss") for s in ("warm", "cold")}
            for name in ("auc_warm", "gauc_warm", "logloss_warm", "auc_cold", "logloss_cold"):
                assert difference[name]["low"] <= difference[name]["mean"] <= difference[name]["high"]
        for subset, words in split["verdicts"].items():
            assert words == verdict(split["differences"]["none"][f"auc_{subset}"])
        assert set(split["verdicts"]) == {"warm", "cold"}


def test_the_kept_ranker_gives_the_kept_scores(parallel: tuple[dict[str, Path], PipelineConfig, Path]) -> None:
    paths, _, out_path = parallel
    training_set = TrainingSet.load(paths["per_user_time"])
    rows = training_set.rows_of(Split.TEST)
    frame = pd.read_parquet(out_path / "user_scores.parquet")
    assert list(frame.columns) == ["row_id", "user_row", "label", "score", "cold"]
    assert np.array_equal(frame["row_id"], rows)
    assert np.array_equal(frame["label"], training_set.label[rows])
    scores = score_rows(load_ranker(out_path / RANKER_FOLDER), training_set, rows)
    np.testing.assert_allclose(frame["score"], scores, atol=1e-6)
    metrics = _metrics(out_path)["splits"]["per_user_time"]["arms"]["real"]["test"]
    value = auc(frame["label"].to_numpy(np.float64), frame["score"].to_numpy(np.float64))
    assert metrics["auc_all"]["values"][0] == pytest.approx(value)


def test_side_by_side_is_as_one_by_one(
    parallel: tuple[dict[str, Path], PipelineConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, config, out_path = parallel
    monkeypatch.setattr(evaluate, "run_parallel", _serial)
    headline = _run(paths, config, tmp_path / "serial")
    one, other = (json.dumps(_without_durations(_metrics(path))) for path in (out_path, tmp_path / "serial"))
    assert one == other  # as text, for NaN is not equal to itself
    first, second = (path / RANKER_FOLDER / "model.safetensors" for path in (out_path, tmp_path / "serial"))
    assert first.read_bytes() == second.read_bytes()
    assert set(headline) >= {"per_user_time/real", "global_time/none", "per_user_time/verdict"}


def test_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "run_parallel", _serial)
    config = small_config(
        data={"label": {"kind": "regression"}},
        evaluation=EvaluationConfig(arms=("real", "none"), num_seeds=1, num_bootstraps=20),
    )
    _run(_sets(tmp_path, label_kind="regression"), config, tmp_path / "out")
    metrics = _metrics(tmp_path / "out")
    for split in metrics["splits"].values():
        assert set(split["differences"]["none"]) == {"rmse_warm", "rmse_cold"}
        assert split["arms"]["real"]["test"]["rmse_warm"]["std"] == 0  # one seed
        assert set(split["verdicts"]) == {"warm", "cold"}


def test_without_cold_rows_their_numbers_are_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "run_parallel", _serial)
    config = small_config(evaluation=EvaluationConfig(arms=("real", "none"), num_seeds=1, num_bootstraps=20))
    training_set = make_training_set()
    dataclasses.replace(training_set, cold=np.zeros_like(training_set.cold)).save(tmp_path)
    headline = _run({"per_user_time": tmp_path}, config, tmp_path / "out")
    text = (tmp_path / "out" / "metrics.json").read_text("utf-8")
    split = json.loads(text, parse_constant=pytest.fail)["splits"]["per_user_time"]  # NaN is not JSON
    assert split["arms"]["real"]["test"]["auc_cold"]["mean"] is None
    assert split["arms"]["real"]["test"]["auc_warm"]["mean"] == split["arms"]["real"]["test"]["auc_all"]["mean"]
    assert split["differences"]["none"]["auc_cold"] == {"mean": None, "low": None, "high": None}
    assert split["verdicts"]["cold"] == "no evidence"
    assert set(headline["per_user_time/real"]) == {"auc_warm", "gauc_warm"}


def test_a_split_without_test_rows_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    training_set = make_training_set()
    codes = np.minimum(training_set.split_code, SPLIT_CODES[Split.VALIDATION])
    dataclasses.replace(training_set, split_code=codes.astype(np.uint8)).save(tmp_path)
    with pytest.raises(DataError, match="per_user_time has no test rows"):
        _run({"per_user_time": tmp_path}, small_config(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_other_arms_need_the_model_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="real among them"):
        _run({}, small_config(evaluation=EvaluationConfig(arms=("none",))), tmp_path / "out")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.03, "helped"),
        (-0.03, -0.01, "hurt"),
        (-0.01, 0.02, "no evidence"),
        (0.0, 0.02, "no evidence"),
        (float("nan"), float("nan"), "no evidence"),
    ],
)
def test_verdict(low: float, high: float, words: str) -> None:
    assert verdict({"mean": (low + high) / 2, "low": low, "high": high}) == words
