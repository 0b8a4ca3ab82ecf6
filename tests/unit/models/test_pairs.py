"""Numbers of pairs that a training makes once for all rows are those that the ranker makes of whole vectors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lorefuse.config import DINConfig, FeatureConfig, parse_config
from lorefuse.core.schema import Split
from lorefuse.features import arms
from lorefuse.features.arms import with_knowledge
from lorefuse.features.history import with_history
from lorefuse.models import field_ranker, pairs
from lorefuse.models.build import build_ranker
from lorefuse.models.ranker import PAIR, Ranker, as_inputs
from lorefuse.training.batches import Batches
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.training_rows import make_training_set

CPU = torch.device("cpu")


def _prepared(training_set: TrainingSet, family: str) -> Ranker:
    config = parse_config({"model": {"family": family}}).model
    ranker = build_ranker(config, training_set.spec)
    ranker.prepare(training_set)
    with torch.no_grad():
        for number, parameter in enumerate(ranker.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return ranker.eval()


@pytest.mark.parametrize("held_bytes", [0, 1 << 27])
@pytest.mark.parametrize("arm", ["real", "none", "categories", "shuffled"])
@pytest.mark.parametrize("family", ["din", "deepfm", "multi_task", "logistic_regression"])
def test_a_batch_with_pair_numbers_scores_as_one_with_vectors(
    family: str, arm: str, held_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "VALUES_AT_A_TIME", 300)
    monkeypatch.setattr(arms, "MAX_HELD_BYTES", held_bytes)
    sample = with_knowledge(make_training_set(), arm, FeatureConfig())  # type: ignore[arg-type]
    sample = with_history(sample, 4 if family == "din" else 0)
    ranker = _prepared(sample, family)
    rows = sample.rows_of(Split.TEST)[::-1].copy()
    short, whole = Batches(sample, CPU, ranker, rows), Batches(sample, CPU)
    chosen = torch.from_numpy(rows)
    assert "user_interest" not in short.inputs(chosen)
    assert (PAIR in short.inputs(chosen)) == (arm != "none")
    with torch.no_grad():
        torch.testing.assert_close(ranker(**short.inputs(chosen)), ranker(**whole.inputs(chosen)), atol=1e-5, rtol=1e-5)


def test_a_facet_that_is_a_field_keeps_its_vectors() -> None:
    sample = make_training_set()
    facets = (sample.spec.interest[0].model_copy(update={"as_field": True}), *sample.spec.interest[1:])
    sample = dataclasses.replace(sample, spec=sample.spec.model_copy(update={"interest": facets}))
    ranker, rows = _prepared(sample, "deepfm"), sample.rows_of(Split.TEST)
    inputs = Batches(sample, CPU, ranker, rows).inputs(torch.from_numpy(rows))
    assert {PAIR, "user_interest"} <= inputs.keys()
    with torch.no_grad():
        torch.testing.assert_close(ranker(**inputs), ranker(**as_inputs(sample.inputs(rows))), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["din", "dcn_v2", "multi_task"])
def test_a_catalogue_in_blocks_scores_as_in_one(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = with_history(make_training_set(), 4 if family == "din" else 0)
    ranker = _prepared(sample, family)
    inputs = as_inputs(sample.inputs(sample.rows_of(Split.TEST)[:11]))
    with torch.no_grad():
        user, item = ranker.halves(inputs)
        whole = ranker.cross_all(user, item)
        monkeypatch.setattr(field_ranker, "ITEMS_PER_BLOCK", 4)
        torch.testing.assert_close(ranker.cross_all(user, item), whole, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(whole.diagonal(), ranker.cross(user, item), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            ranker.cross_lists({k: v[:3] for k, v in user.items()}, {k: v[:9] for k, v in item.items()}, 3),
            torch.stack([whole[n, 3 * n : 3 * n + 3] for n in range(3)]),
            atol=1e-5,
            rtol=1e-5,
        )


def test_many_rows_of_one_state(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = with_history(make_training_set(), 4)
    rows = np.repeat(sample.rows_of(Split.TEST)[:5], [1, 40, 2, 33, 1])
    ranker = build_ranker(DINConfig(history_length=4), sample.spec)
    found = pairs.history_matches(sample, ranker.matched, rows)  # type: ignore[arg-type]
    monkeypatch.setattr(pairs, "VALUES_AT_A_TIME", 1)
    torch.testing.assert_close(pairs.history_matches(sample, ranker.matched, rows), found)  # type: ignore[arg-type]
    torch.testing.assert_close(found[1:41], found[1].expand(40, -1))
