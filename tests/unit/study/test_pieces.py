"""Variants, buckets, verdicts and what a catalogue shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.config import PipelineConfig, StudyConfig
from lorefuse.core.errors import ConfigError, UsageError
from lorefuse.core.schema import Split, Tensor
from lorefuse.models.build import build_ranker
from lorefuse.models.ranker import as_inputs
from lorefuse.study.buckets import bucket_masks, popularity_zone
from lorefuse.study.catalogue import top_items
from lorefuse.study.variants import BASE, make_variants
from lorefuse.study.verdict import bucket_verdict, direction, holm, p_value
from tests.helpers.training_rows import make_training_set, small_config


def test_every_combination_is_a_variant() -> None:
    variants = make_variants(PipelineConfig(), ["model.family=deepfm,din", "model.fusion=concat,gated"])
    assert [(v.config.model.family, getattr(v.config.model, "fusion", "")) for v in variants] == [
        ("deepfm", "concat"), ("deepfm", "gated"), ("din", "concat"), ("din", "gated"),
    ]  # fmt: skip
    assert variants[0].name == "model.family=deepfm model.fusion=concat"
    assert make_variants(PipelineConfig(), [])[0].name == BASE


def test_a_family_takes_over_what_it_knows() -> None:
    config = small_config()
    variant = make_variants(config, ["model.family=fm"])[0].config.model
    assert variant.family == "fm"
    assert variant.embedding_dim == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("entry", ["model.fusion", "=x", "model.fusion=", "model.fusion=a,,b"])
def test_what_cannot_be_read_is_named(entry: str) -> None:
    with pytest.raises(UsageError, match="--vary"):
        make_variants(PipelineConfig(), [entry])


@pytest.mark.parametrize("entry", ["model.fusion=glue", "model.nothing=1", "name.x=1"])
def test_a_variant_must_be_valid(entry: str) -> None:
    with pytest.raises((ConfigError, UsageError)):
        make_variants(PipelineConfig(), [entry])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.floats(0.1, 0.6), st.floats(0.05, 0.3))
def test_zones_follow_popularity(counts: list[int], head: float, tail: float) -> None:
    count = np.array(counts)
    zone = popularity_zone(count, head, tail)
    assert ((zone == 0) == (count == 0)).all()
    warm = np.flatnonzero(count)
    for zone_of_more, zone_of_less in ((1, 2), (1, 3), (2, 3)):
        more, less = count[warm][zone[warm] == zone_of_more], count[warm][zone[warm] == zone_of_less]
        assert not len(more) or not len(less) or more.min() >= less.max()
    if count.sum():
        assert count[zone == 1].sum() >= head * count.sum() - 1e-6 or (zone[warm] == 1).all()


def test_buckets_of_test_rows() -> None:
    rows = make_training_set()
    masks = bucket_masks(rows, StudyConfig())
    assert (masks["cold_item"] == rows.cold[rows.rows_of(Split.TEST)]).all()
    assert (masks["warm"] == masks["head"] | masks["torso"] | masks["tail"]).all()
    assert (masks["head"].astype(int) + masks["torso"] + masks["tail"] + masks["cold_item"] == 1).all()
    assert not (masks["cold_user"] & masks["new_user"]).any()


def test_words_follow_the_interval() -> None:
    up, down, both = ({"mean": 0.0, "low": low, "high": high} for low, high in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1)))
    assert [direction(gap, "auc") for gap in (up, down, both)] == [1, -1, 0]
    assert [direction(gap, "logloss") for gap in (up, down, both)] == [-1, 1, 0]
    assert direction({"mean": None, "low": None, "high": None}, "auc") == 0


def test_a_sentence_says_whether_it_was_the_knowledge() -> None:
    gap = {"auc_warm": {"mean": 0.02, "low": 0.01, "high": 0.03}}
    same = {"auc_warm": {"mean": 0.001, "low": -0.01, "high": 0.01}}
    text = bucket_verdict({"none": gap, "shuffled": same, "random": gap}, "warm", "auc")
    assert text.startswith("helped: AUC +0.0200 [+0.0100, +0.0300] against no knowledge")
    assert "not told apart from shuffled knowledge" in text
    assert "better than random vectors" in text
    assert "too few rows" in bucket_verdict({}, "warm", "auc")


def test_p_values_and_holm() -> None:
    assert p_value({"mean": 1.959964, "low": 0.0, "high": 2 * 1.959964}) == pytest.approx(0.05, abs=1e-6)
    assert p_value({"mean": None, "low": None, "high": None}) == 1
    assert holm([0.012, 0.02, 0.5, 0.001]) == [True, True, False, True]
    assert holm([]) == []


def test_a_catalogue_is_ranked_without_what_was_seen() -> None:
    rows = make_training_set()
    ranker = build_ranker(small_config().model, rows.spec)
    ranker.prepare(rows)
    shown = top_items(ranker.eval(), rows, 5, 4)
    assert shown.shape == (5, 4)
    test, train = rows.rows_of(Split.TEST), rows.rows_of(Split.TRAIN)
    users, first = np.unique(rows.user_row[test], return_index=True)
    chosen = np.unique(np.linspace(0, len(users) - 1, 5).round().astype(int))
    for user, row, items in zip(users[chosen], test[first[chosen]], shown, strict=True):
        seen = set(rows.item_row[train][rows.user_row[train] == user].tolist())
        assert not seen & set(items.tolist())
        repeated = {k: v for k, v in as_inputs(rows.inputs(np.array([row]))).items() if k.startswith("user")}
        tables = rows.item_tables() | {Tensor.ITEM_NUMERIC: rows.item_numeric_now}
        every = as_inputs(tables)
        with torch.no_grad():
            user_side = {k: v.expand(len(rows.item_fields), -1) for k, v in repeated.items()}
            scores = ranker(**user_side, **every).numpy()
        scores[sorted(seen)] = -np.inf
        assert items.tolist() == np.argsort(-scores, kind="stable")[:4].tolist()
