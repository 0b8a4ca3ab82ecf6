"""Differentially private steps: Opacus's account, gradients by user, and what one user can move at most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from lorefuse.config import (
    DCNV2Config,
    DeepFMConfig,
    DINConfig,
    EvaluationConfig,
    FinalMLPConfig,
    FMConfig,
    LogisticRegressionConfig,
    ModelConfig,
    MultiTaskConfig,
    PipelineConfig,
    PrivateTrainingConfig,
    TrainingConfig,
    WideDeepConfig,
)
from lorefuse.core.errors import ConfigError
from lorefuse.core.schema import Split
from lorefuse.features.history import with_history
from lorefuse.lists.run import wants_candidates
from lorefuse.models.build import build_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.report.tables import privacy_rows
from lorefuse.training.batches import Batches
from lorefuse.training.evaluate import run_arms
from lorefuse.training.job import Job, run_job
from lorefuse.training.private import PrivateSteps, UserRows, make_plan
from lorefuse.training.row_metrics import auc
from lorefuse.training.train import score_rows, train
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import NUM_USERS, make_training_set, small_config

pytest.importorskip("opacus", reason="Opacus is not installed (pip install 'lorefuse[privacy]')")

SMALL = {"embedding_dim": 4, "fusion_text_dim": 2, "fusion_graph_dim": 2, "id_dropout": 0.0}
FAMILIES: list[ModelConfig] = [
    LogisticRegressionConfig(id_dropout=0.0),
    FMConfig(**SMALL),
    WideDeepConfig(hidden_dims=(8,), **SMALL),
    DeepFMConfig(hidden_dims=(8,), **SMALL),
    DCNV2Config(hidden_dims=(8,), **SMALL),
    FinalMLPConfig(**SMALL),
    DINConfig(history_length=5, **SMALL),
    MultiTaskConfig(**SMALL),
]
CLIP, EXPECTED = 0.3, 4
PLAN = {"noise_multiplier": 0.0, "max_grad_norm": CLIP, "expected_users": EXPECTED, "sample_rate": 0.2}


def _prepared(model: ModelConfig, seed: int = 0) -> tuple[Ranker, TrainingSet, Batches]:
    training_set = with_history(make_training_set(), getattr(model, "history_length", 0))
    ranker = build_ranker(model, training_set.spec, seed=seed).eval()
    ranker.prepare(training_set)
    with torch.no_grad():  # larger weights than a new model's, so that gradients are not near 0
        for parameter in ranker.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return ranker, training_set, Batches(training_set, torch.device("cpu"), ranker, training_set.rows_of(Split.TRAIN))


def _steps(ranker: Ranker, batches: Batches, **changed: Any) -> PrivateSteps:
    descent = torch.optim.SGD(ranker.parameters(), lr=1)
    return PrivateSteps(ranker, batches, descent, {**PLAN, **changed}, torch.Generator().manual_seed(3))


def _rows(training_set: TrainingSet, num_users: int, num_rows: int) -> Tensor:
    train = training_set.rows_of(Split.TRAIN)
    users = UserRows(training_set.user_row[train], train)
    return torch.from_numpy(users.draw(np.arange(num_users), num_rows, np.random.default_rng(0)))


def _flat(ranker: Ranker) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in ranker.parameters()]).clone()


def test_epsilon_is_that_of_the_accountant_for_the_same_steps_rate_and_noise() -> None:
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

    training = TrainingConfig(
        max_epochs=3,
        num_threads=1,
        privacy=PrivateTrainingConfig(epsilon=3, delta=1e-3, users_per_step=5, rows_per_user=4),
    )
    facts = train(make_training_set(), DeepFMConfig(hidden_dims=(8,), **SMALL), training).history.privacy
    assert facts is not None
    assert (facts["num_users"], facts["sample_rate"], facts["num_steps"]) == (NUM_USERS, 0.25, 12)
    from opacus.accountants import RDPAccountant

    orders = RDPAccountant.DEFAULT_ALPHAS
    rdp = compute_rdp(q=0.25, noise_multiplier=facts["noise_multiplier"], steps=12, orders=orders)
    epsilon, _ = get_privacy_spent(orders=orders, rdp=rdp, delta=1e-3)
    assert facts["epsilon"] == pytest.approx(epsilon, rel=1e-12)
    assert 2.95 < facts["epsilon"] <= 3
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.family)
def test_gradients_by_user_are_those_of_each_user_alone(model: ModelConfig) -> None:
    ranker, training_set, batches = _prepared(model)
    rows = _rows(training_set, 5, 6)
    gradients, losses = _steps(ranker, batches).user_gradients(rows)
    for user, of_user in enumerate(rows):
        ranker.zero_grad()
        inputs = batches.inputs(of_user)
        loss = ranker.row_loss(inputs, batches.label[of_user], batches.value[of_user])
        loss.backward()
        assert float(losses[user]) == pytest.approx(float(loss.detach()), rel=1e-5)
        for name, parameter in ranker.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(gradients[f"ranker.{name}"][user], expected, rtol=1e-4, atol=1e-6)


def test_a_step_is_the_sum_of_clipped_gradients_over_the_expected_users() -> None:
    ranker, training_set, batches = _prepared(FAMILIES[3])
    rows, before = _rows(training_set, 6, 5), _flat(ranker)
    steps = _steps(ranker, batches)
    gradients, _ = steps.user_gradients(rows)
    by_user = torch.cat([gradients[f"ranker.{name}"].reshape(6, -1) for name, _ in ranker.named_parameters()], dim=1)
    norms = by_user.norm(dim=1)
    assert (norms > CLIP).any()
    expected = (by_user * (CLIP / norms).clamp(max=1)[:, None]).sum(0) / EXPECTED
    steps(rows)
    torch.testing.assert_close(before - _flat(ranker), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_at_once", [1, 2, 100])
def test_parts_of_a_step_are_one_step(num_at_once: int) -> None:
    found = []
    for per_part in (1000, num_at_once):
        ranker, training_set, batches = _prepared(FAMILIES[3])
        steps = _steps(ranker, batches, noise_multiplier=0.7)
        steps._per_part = per_part
        for number in range(2):
            steps(_rows(training_set, 5 - number, 3))
        found.append(_flat(ranker))
        assert steps.accountant.history == [(0.7, 0.2, 2)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_one_user_moves_an_update_by_no_more_than_the_clipped_norm() -> None:
    base_rows: Tensor | None = None
    moved = []
    for change in ("as they are", "other rows and labels", "nobody there"):
        ranker, training_set, batches = _prepared(FAMILIES[3])
        rows = _rows(training_set, 6, 5) if base_rows is None else base_rows.clone()
        base_rows = rows.clone()
        if change == "other rows and labels":  # whatever the user might have done, wild values among it
            rows[2] = _rows(training_set, 12, 5)[11]
            batches.label[rows[2]] = 1 - batches.label[rows[2]]
            batches.rows["item_numeric"][rows[2]] = 1e4
        if change == "nobody there":
            rows = rows[[0, 1, 3, 4, 5]]
        before = _flat(ranker)
        _steps(ranker, batches)(rows)
        moved.append(before - _flat(ranker))
    absent = (moved[0] - moved[2]).norm()
    assert 0 < absent <= CLIP / EXPECTED * (1 + 1e-4)
    assert (moved[1] - moved[2]).norm() <= CLIP / EXPECTED * (1 + 1e-4)
    assert 0 < (moved[0] - moved[1]).norm() <= 2 * CLIP / EXPECTED


def test_noise_has_the_deviation_that_was_accounted_for() -> None:
    ranker, training_set, batches = _prepared(FAMILIES[3])
    steps, before = _steps(ranker, batches, noise_multiplier=5.0), _flat(ranker)
    steps(_rows(training_set, 1, 4)[:0])  # nobody was drawn: noise alone
    moved = _flat(ranker) - before
    assert float(moved.std()) == pytest.approx(5 * CLIP / EXPECTED, rel=0.1)
    assert steps.accountant.history == [(5.0, 0.2, 1)]


def test_rows_of_a_user_come_all_before_any_comes_again() -> None:
    users = UserRows(np.array([7, 3, 7, 7]), np.array([10, 11, 12, 13]))
    assert len(users) == 2
    drawn = users.draw(np.array([0, 1]), 5, np.random.default_rng(0))
    assert drawn[0].tolist() == [11] * 5
    assert sorted(drawn[1][:3]) == [10, 12, 13]
    assert set(drawn[1]) == {10, 12, 13}
    assert len(set(users.draw(np.array([1]), 2, np.random.default_rng(1))[0])) == 2


def _learnable() -> tuple[TrainingSet, ModelConfig]:
    return make_training_set(num_rows=2000), DeepFMConfig(hidden_dims=(8,), **SMALL)


def test_with_little_privacy_it_learns_and_with_much_it_does_not() -> None:
    training_set, model = _learnable()
    test = training_set.rows_of(Split.TEST)
    found = []
    for epsilon in (1000.0, 0.05):
        privacy = PrivateTrainingConfig(epsilon=epsilon, delta=1e-3, users_per_step=10, max_grad_norm=1.0)
        training = TrainingConfig(learning_rate=0.02, max_epochs=20, num_threads=1, ema_decay=0, privacy=privacy)
        made = train(training_set, model, training)
        scores = score_rows(made.ranker, training_set, test)
        found.append(auc(training_set.label[test].astype(np.float64), scores.astype(np.float64)))
        assert made.history.best_epoch == len(made.history.epochs) == 20, "no epoch is chosen"
        assert made.history.privacy is not None
        assert made.history.privacy["epsilon"] <= epsilon
        assert not made.ranker.training
    assert found[0] > 0.65
    assert found[0] > found[1] + 0.05


def test_neither_noise_nor_draws_come_from_the_seed() -> None:
    training_set, model = _learnable()
    training = TrainingConfig(max_epochs=1, num_threads=1, privacy=PrivateTrainingConfig(epsilon=1, delta=1e-3))
    first, second = (_flat(train(training_set, model, training).ranker) for _ in range(2))
    assert not torch.equal(first, second)


def test_a_delta_of_one_user_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"below 1 / 20 users[\s\S]*got: 0.05[\s\S]*fix: set it to 5e-03"):
        make_plan(PrivateTrainingConfig(epsilon=1, delta=0.05), 20, 1)


def test_an_epsilon_out_of_reach_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        make_plan(PrivateTrainingConfig(epsilon=1e-9, delta=1e-9), 20, 1)


def test_an_alignment_loss_is_refused() -> None:
    training = TrainingConfig(privacy=PrivateTrainingConfig(epsilon=1, delta=1e-3))
    with pytest.raises(ConfigError, match="alignment_weight 0"):
        train(make_training_set(), DeepFMConfig(alignment_weight=0.1, hidden_dims=(8,), **SMALL), training)


@pytest.mark.parametrize(
    "other", [{"loss": "bpr"}, {"num_processes": 2}, {"checkpoint_epochs": 1}, {"compiled": True}], ids=str
)
def test_steps_that_are_not_plain_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"privacy needs .*not {next(iter(other))}"):
        TrainingConfig(privacy=PrivateTrainingConfig(epsilon=1), **other)


def test_what_has_no_noise_is_not_served_before_a_private_ranker() -> None:
    training = TrainingConfig(privacy=PrivateTrainingConfig(epsilon=1))
    config, training_set = PipelineConfig(training=training), make_training_set()
    assert wants_candidates(training_set, 0.5, PipelineConfig())
    assert not wants_candidates(training_set, 0.5, config)
    with pytest.raises(ValidationError, match="not blend"):
        PipelineConfig(training=training, candidates={"mode": "blend"})


def test_without_opacus_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(ConfigError, match=r"pip install 'lorefuse\[privacy\]'"):
        make_plan(PrivateTrainingConfig(epsilon=1), 20, 1)


def test_an_evaluation_says_what_the_kept_ranker_was_trained_with(tmp_path: Path) -> None:
    paths = {"per_user_time": tmp_path / "rows"}
    paths["per_user_time"].mkdir()
    make_training_set(num_rows=400).save(paths["per_user_time"])
    privacy = PrivateTrainingConfig(epsilon=2, delta=1e-3, users_per_step=10, rows_per_user=4)
    config = small_config(
        training=TrainingConfig(max_epochs=2, num_threads=1, privacy=privacy),
        evaluation=EvaluationConfig(arms=("real",), num_seeds=1, num_bootstraps=10, k=3),
    )
    (tmp_path / "out").mkdir()
    run_arms(paths, {"real": {}}, {"real": []}, config, tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert 1.9 < metrics["privacy"]["epsilon"] <= 2
    assert (metrics["privacy"]["unit"], metrics["privacy"]["num_steps"]) == ("user", 4)
    rows = dict(privacy_rows(metrics["privacy"]))
    assert rows["Guarantee"] == f"ε {metrics['privacy']['epsilon']:.3f}, δ 1.0e-03, by user"
    assert privacy_rows(None) == []


def test_a_job_keeps_what_its_training_guarantees(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    make_training_set(num_rows=400).save(tmp_path / "rows")
    privacy = PrivateTrainingConfig(epsilon=2, delta=1e-3, users_per_step=10, rows_per_user=4)
    config = small_config(training=TrainingConfig(max_epochs=2, num_threads=1, privacy=privacy))
    job = Job(rows_path=tmp_path / "rows", config=config, out_path=tmp_path / "out", points_path=tmp_path / "points")
    made = run_job(job)
    assert made.history.privacy is not None
    assert made.history.privacy["delta"] == 1e-3
    assert made.validation_score == made.history.epochs[-1]["validation_score"]
