from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorefuse.config import PipelineConfig, parse_config
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError, ConfigError, UsageError
from lorefuse.registry.gate import gate, read_scores
from lorefuse.registry.version import aliases, get_version, promote
from tests.helpers import artifacts
from tests.unit.registry.conftest import Workbench

NAME = artifacts.CONFIG.registry.model_name


def _judge(workbench: Workbench, name: str, config: PipelineConfig = artifacts.CONFIG, **paths: Path) -> Any:
    version = workbench.register(name)["version"]
    return gate(config, version, workbench.evaluation(name), **paths)


def test_the_first_sane_model_becomes_champion(workbench: Workbench) -> None:
    decision = _judge(workbench, "a")
    assert decision.promoted
    assert decision.reason.startswith("first model")
    assert decision.interval is None
    assert aliases(NAME) == {"challenger": "1", "champion": "1"}
    assert get_version(NAME, "1").tags["lorefuse.gate"] == "promoted"
    again = _judge(workbench, "a")
    assert again.promoted
    assert again.reason == "already champion"


def test_a_model_no_better_than_chance_is_refused(workbench: Workbench) -> None:
    workbench.register("a")
    path = workbench.evaluation("a") / "user_scores.parquet"
    scores = artifacts.make_scores(1.0)
    scores.assign(score=1 - scores["score"]).to_parquet(path)
    decision = gate(artifacts.CONFIG, "1", workbench.evaluation("a"))
    assert not decision.promoted
    assert "no better than chance" in decision.reason
    scores.assign(score=np.float32("nan")).to_parquet(path)
    assert "not finite" in gate(artifacts.CONFIG, "1", workbench.evaluation("a")).reason
    scores.assign(cold=True).to_parquet(path)
    assert "cannot be computed" in gate(artifacts.CONFIG, "1", workbench.evaluation("a")).reason
    assert "champion" not in aliases(NAME)


def test_a_significantly_worse_model_is_refused_and_a_better_one_promoted(workbench: Workbench) -> None:
    workbench.register("a", noise=1.0)
    workbench.register("b", noise=6.0)
    workbench.register("c", noise=0.8)
    assert gate(artifacts.CONFIG, "1", workbench.evaluation("a")).promoted
    worse = gate(artifacts.CONFIG, "2", workbench.evaluation("b"))
    assert not worse.promoted
    assert worse.interval is not None
    assert worse.interval[1] < 0
    assert "significantly worse" in worse.reason
    assert aliases(NAME)["champion"] == "1"
    tags = get_version(NAME, "2").tags
    assert tags["lorefuse.gate"] == "refused"
    assert json.loads(tags["lorefuse.gate_interval"]) == list(worse.interval)
    better = gate(artifacts.CONFIG, "3", workbench.evaluation("c"))
    assert better.promoted
    assert better.metrics["auc_warm"] > better.metrics["champion_auc_warm"]
    assert aliases(NAME)["champion"] == "3"


def test_another_test_set_is_refused_unless_the_champion_can_score_it(workbench: Workbench, tmp_path: Path) -> None:
    workbench.register("a")
    workbench.register("b", dataset="two")
    workbench.register("c", dataset="three", vocabulary="other")
    assert gate(artifacts.CONFIG, "1", workbench.evaluation("a")).promoted
    refused = gate(artifacts.CONFIG, "2", workbench.evaluation("b"))
    assert not refused.promoted
    assert "no training set was given" in refused.reason
    training_set = artifacts.make_training_set(tmp_path / "training_set", artifacts.make_scores(1.0))
    foreign = gate(artifacts.CONFIG, "3", workbench.evaluation("c"), training_set_path=training_set)
    assert not foreign.promoted
    assert "vocabularies.json is another" in foreign.reason
    assert "lorefuse promote 3" in foreign.reason
    scored = gate(artifacts.CONFIG, "2", workbench.evaluation("b"), training_set_path=training_set)
    assert scored.promoted  # the stand-in champion ranks at random there
    assert scored.metrics["champion_auc_warm"] == pytest.approx(0.5, abs=0.12)
    wrong = artifacts.make_training_set(tmp_path / "short", artifacts.make_scores(1.0).head(10))
    promote(NAME, "1", "champion")
    with pytest.raises(ArtifactError, match="does not hold the rows"):
        gate(artifacts.CONFIG, "2", workbench.evaluation("b"), training_set_path=wrong)


def test_the_gate_explains_bad_input(workbench: Workbench, tmp_path: Path) -> None:
    workbench.register("a")
    with pytest.raises(ConfigError, match=r"registry\.gate_metric"):
        parse_config({"registry": {"gate_metric": "accuracy"}})
    registry = artifacts.CONFIG.registry.model_copy(update={"gate_metric": "accuracy"})
    with pytest.raises(ConfigError, match="one of auc_all"):
        gate(artifacts.CONFIG.model_copy(update={"registry": registry}), "1", workbench.evaluation("a"))
    with pytest.raises(UsageError, match="no version or alias 7"):
        gate(artifacts.CONFIG, "7", workbench.evaluation("a"))
    with pytest.raises(ArtifactError, match="cannot be read"):
        gate(artifacts.CONFIG, "1", tmp_path / "nothing")
    path = tmp_path / "user_scores.parquet"
    artifacts.make_scores(1.0).drop(columns="cold").to_parquet(path)
    with pytest.raises(ArtifactError, match="no column cold"):
        read_scores(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_scores(tmp_path)


def test_a_decision_can_be_written_down(workbench: Workbench) -> None:
    decision = _judge(workbench, "a")
    assert json.loads(json.dumps(dataclasses.asdict(decision)))["promoted"] is True


@pytest.mark.parametrize(
    ("gap", "reason"),
    [
        ({"mean": 0.02, "low": 0.01, "high": 0.03}, "first model"),
        ({"mean": 0.02, "low": -0.01, "high": 0.05}, "does not beat shuffled knowledge"),
        ({"mean": -0.02, "low": -0.03, "high": -0.01}, "does not beat shuffled knowledge"),
        ({"mean": None, "low": None, "high": None}, "was not compared with shuffled"),
        (None, "was not compared with shuffled"),
    ],
    ids=["better", "not told apart", "worse", "undefined", "no such arm"],
)
def test_knowledge_must_beat_its_shuffled_control(
    workbench: Workbench, gap: dict[str, Any] | None, reason: str
) -> None:
    registry = artifacts.CONFIG.registry.model_copy(update={"require_beats_shuffled": True})
    config = artifacts.CONFIG.model_copy(update={"registry": registry})
    workbench.register("a")
    path = workbench.evaluation("a") / "metrics.json"
    metrics = json.loads(path.read_text("utf-8"))
    for content in metrics["splits"].values():
        content["differences"] = {} if gap is None else {"shuffled": {config.registry.gate_metric: gap}}
    path.write_text(json.dumps(metrics), "utf-8")
    decision = gate(config, "1", workbench.evaluation("a"))
    assert decision.promoted == (reason == "first model")
    assert reason in decision.reason
    assert gate(artifacts.CONFIG, "1", workbench.evaluation("a")).promoted


@pytest.mark.parametrize(
    ("gap", "promoted"),
    [
        ({"mean": -0.29, "low": -0.4, "high": -0.1}, False),
        ({"mean": -0.29, "low": -0.6, "high": 0.1}, True),
        ({"mean": 0.1, "low": 0.05, "high": 0.2}, True),
        ({"mean": -0.29, "low": None, "high": None}, True),
    ],
    ids=["hurt", "no evidence", "helped", "too few users"],
)
def test_a_model_that_knowledge_hurt_is_refused(workbench: Workbench, gap: dict[str, Any], promoted: bool) -> None:
    workbench.register("a")
    path = workbench.evaluation("a") / "metrics.json"
    metrics = json.loads(path.read_text("utf-8"))
    for content in metrics["splits"].values():
        content["differences"] = {"none": {artifacts.CONFIG.registry.gate_metric: gap}}
    path.write_text(json.dumps(metrics), "utf-8")
    decision = gate(artifacts.CONFIG, "1", workbench.evaluation("a"))
    assert decision.promoted == promoted
    assert promoted or "knowledge hurt: auc_warm -0.2900" in decision.reason


def _membership(path: Path, mean: float) -> Path:
    auc = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}
    path.mkdir()
    write_json(path / "membership.json", {"halves": {"lira": {"auc": auc}}})
    return path


def test_a_model_that_gives_its_rows_away_is_refused(workbench: Workbench, tmp_path: Path) -> None:
    registry = artifacts.CONFIG.registry.model_copy(update={"max_membership_auc": 0.55})
    bounded = artifacts.CONFIG.model_copy(update={"registry": registry})
    told = _membership(tmp_path / "told", 0.61)
    decision = _judge(workbench, "a", bounded, membership_path=told)
    assert not decision.promoted
    assert decision.reason == (
        "refused: train rows can be told: membership AUC 0.6100, 95 % interval [0.5900, 0.6300], allowed 0.55"
    )
    assert (decision.metrics, decision.interval) == ({"membership_auc": 0.61}, (0.59, pytest.approx(0.63)))
    assert get_version(NAME, "1").tags["lorefuse.gate"] == "refused"
    assert "no attack was tried" in gate(bounded, "1", workbench.evaluation("a")).reason
    assert gate(artifacts.CONFIG, "1", workbench.evaluation("a"), membership_path=told).promoted, "nobody asked"


def test_a_model_within_the_bound_is_judged_like_any_other(workbench: Workbench, tmp_path: Path) -> None:
    registry = artifacts.CONFIG.registry.model_copy(update={"max_membership_auc": 0.55})
    bounded = artifacts.CONFIG.model_copy(update={"registry": registry})
    decision = _judge(workbench, "a", bounded, membership_path=_membership(tmp_path / "kept", 0.52))
    assert decision.promoted
    assert decision.reason.startswith("first model")
