"""The conditional space, folds, pruning, and tuning in generations."""

from __future__ import annotations

import json

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.config import DeepFMConfig, LogisticRegressionConfig, TuningConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import Split
from lorefuse.training.params import apply, defaults
from lorefuse.tuning import generations
from lorefuse.tuning.folds import rolling_folds
from lorefuse.tuning.pruning import Pruner
from lorefuse.tuning.space import ALIGNMENT, CHOICES, RANGES, suggest
from lorefuse.tuning.study import first_point
from tests.helpers.training_rows import make_training_set, small_config

JOINT = small_config(tuning=TuningConfig(space="joint", families=("deepfm", "logistic_regression"), num_trials=4))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["real", "none"]))
def test_a_trial_draws_only_what_its_model_has(seed: int, arm: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    params = suggest(study.ask(), JOINT, arm)
    model, training = apply(JOINT, params)
    assert model.family == params["family"]
    assert training.learning_rate == params["learning_rate"]
    if params["family"] == "logistic_regression":
        assert set(params) == {*RANGES, "family"}
    elif arm == "none":
        assert set(params) == {*RANGES, "family", "embedding_dim"}
    else:
        assert set(CHOICES) - {"alignment"} <= set(params)
        assert ("alignment_temperature" in params) == (params["alignment_weight"] > 0)
        assert model.fusion == params["fusion"]  # type: ignore[union-attr]
        for name, (low, high, _) in ALIGNMENT.items():
            assert name not in params or params[name] == 0 or low <= params[name] <= high


def test_the_training_space_is_as_it_was() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert list(suggest(study.ask(), small_config())) == list(RANGES)


def test_a_family_takes_over_what_it_shares() -> None:
    config = small_config(model=DeepFMConfig(embedding_dim=8, fusion="gated", hidden_dims=(16,)))
    model, _ = apply(config, {"family": "fm", "id_dropout": 0.2})
    assert (model.family, model.embedding_dim, model.fusion, model.id_dropout) == ("fm", 8, "gated", 0.2)  # type: ignore[union-attr]
    plain = small_config(model=LogisticRegressionConfig())
    assert apply(plain, defaults(plain))[0] == LogisticRegressionConfig()


def test_the_first_trial_is_the_configuration() -> None:
    point = first_point(JOINT, "real")
    assert point["family"] == "deepfm"
    assert point["fusion"] == "residual"
    assert point["embedding_dim"] == 8  # 4 is not a choice; the first stands in


def test_folds_roll_in_time_and_leave_test_rows_alone() -> None:
    rows = make_training_set()
    test, known = rows.rows_of(Split.TEST), np.r_[rows.rows_of(Split.TRAIN), rows.rows_of(Split.VALIDATION)]
    folds = rolling_folds(rows, 3, per_user=True)
    assert len(folds) == 3
    judged = [set(fold.rows_of(Split.VALIDATION).tolist()) for fold in folds]
    assert not any(judged[a] & judged[b] for a in range(3) for b in range(a))
    for fold, mine in zip(folds, judged, strict=True):
        train = fold.rows_of(Split.TRAIN)
        assert mine
        assert mine <= set(known.tolist())
        assert not set(train) & set(test)
        for row in mine:
            same = train[rows.user_row[train] == rows.user_row[row]]
            assert (rows.timestamp_us[same] <= rows.timestamp_us[row]).all()
    assert rolling_folds(rows, 1, per_user=True)[0] is rows


def test_all_rows_by_time() -> None:
    rows = make_training_set()
    for fold in rolling_folds(rows, 2, per_user=False):
        last = rows.timestamp_us[fold.rows_of(Split.TRAIN)].max()
        assert last < rows.timestamp_us[fold.rows_of(Split.VALIDATION)].min()


def test_a_trial_behind_the_median_is_stopped() -> None:
    curves = [[0.5, 0.7, 0.8], [0.5, 0.6, 0.9]]
    pruner = Pruner(curves)
    assert not pruner(1, 0.5)
    assert pruner(2, 0.3)
    assert pruner.pruned
    assert pruner.curve == [0.5, 0.3]
    assert Pruner(curves)(1, 0.1)  # the first epoch is judged too
    good = Pruner(curves)
    assert not any(good(epoch, score) for epoch, score in enumerate([0.6, 0.8, 0.95], start=1))
    early = Pruner(curves[:1])
    assert not any(early(epoch, 0.0) for epoch in (1, 2, 3))


def test_generations_need_nothing_but_json() -> None:
    study = generations.new_study("real")
    for generation in range(3):
        asked = generations.ask(study, JOINT, 2)
        assert asked == generations.ask(study, JOINT, 2)
        assert asked[0] != asked[1]
        if generation == 0:
            assert asked[0]["family"] == "deepfm"
        results = [
            {"params": params, "state": "COMPLETE", "value": -params["learning_rate"], "curve": [-1.0]}
            for params in asked
        ]
        results[1] |= {"state": "PRUNED"} if generation == 1 else {}
        study = generations.add_results(study, json.loads(json.dumps(results)))
    records = json.loads(study)["records"]
    assert [record["number"] for record in records] == list(range(6))
    complete = [record for record in records if record["state"] == "COMPLETE"]
    assert generations.best(study)["value"] == max(record["value"] for record in complete)


def test_what_is_no_study_is_refused() -> None:
    for text in ("", "[]", "{}", '{"arm": 1, "records": []}'):
        with pytest.raises(ArtifactError, match="no study"):
            generations.ask(text, JOINT, 1)
    with pytest.raises(ArtifactError, match="not whole"):
        generations.add_results(generations.new_study(), [{"params": {}}])
    with pytest.raises(ArtifactError, match="no finished trial"):
        generations.best(generations.new_study())
