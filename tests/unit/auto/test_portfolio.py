"""The portfolio: what suits which data, and how a configuration lies over a preset."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorefuse.auto.portfolio import PORTFOLIO, entries, ordered, overlay
from lorefuse.auto.profile import Profile
from lorefuse.config import AutoConfig, PipelineConfig, parse_config
from tests.unit.study.test_advise import BASE

ROOT = Path(__file__).parents[3]
BEAUTY = dataclasses.replace(BASE, num_items=12_101, num_users=22_363, num_train=137_000, rows_per_item=12.9)
FILMS = dataclasses.replace(BASE, num_items=1682, num_users=943, num_train=70_500, rows_per_item=47.6, num_words=9.0)
SHARE = st.floats(0, 1)


def test_each_says_where_it_won() -> None:
    sections = re.findall(r"^## (\d+)\.", (ROOT / "docs" / "experiments.md").read_text("utf-8"), flags=re.M)
    assert len({one.name for one in PORTFOLIO}) == len(PORTFOLIO)
    for one in PORTFOLIO:
        cited = re.findall(r"\d+", one.evidence.partition(":")[0])
        assert cited, one.name
        assert set(cited) <= set(sections), one.name


def test_sparse_data_with_texts_begins_with_din_on_supervised_words() -> None:
    first = ordered(BEAUTY)[0]
    assert first.settings["model.family"] == "din"
    assert first.settings["embedding.reducer"] == "supervised"
    assert first.settings["embedding.word_dim"] == 512
    assert ordered(FILMS)[0].settings["model.family"] == "deepfm"


@given(st.integers(1, 10**6), st.integers(1, 10**7), st.floats(1, 1e4), SHARE)
def test_six_to_ten_are_raced_whatever_the_data(items: int, rows: int, per_item: float, bare: float) -> None:
    facts = Profile(items, 9, rows, 9, per_item, 4.0, 9.0, bare, 0.1, 0.0, 0.0, 0)
    assert (3 if bare == 1 else 6) <= len(ordered(facts)) <= 10


def test_what_reads_texts_is_left_out_where_there_are_none() -> None:
    assert not [one for one in ordered(dataclasses.replace(BEAUTY, no_text_share=1.0)) if one.reads_text]


@pytest.mark.parametrize("one", PORTFOLIO, ids=lambda one: one.name)
def test_every_configuration_is_valid_and_runs_without_a_race(one: object) -> None:
    made = overlay(PipelineConfig(auto=AutoConfig()), one.settings)  # type: ignore[attr-defined]
    assert made.auto is None
    assert parse_config(made.model_dump(mode="json")) == made


def test_what_the_preset_sets_stays() -> None:
    preset = parse_config({"model": {"family": "dcn_v2", "num_cross_layers": 3}, "embedding": {"reduce_dim": 8}})
    fixed = ("model.family", "model.num_cross_layers", "embedding.reduce_dim")
    for one in PORTFOLIO:
        made = overlay(preset, one.settings, fixed)
        assert (made.model.family, made.embedding.reduce_dim) == ("dcn_v2", 8)


def test_configurations_that_the_preset_makes_equal_stand_once() -> None:
    fixed = tuple(sorted({path for one in PORTFOLIO for path in one.settings}))
    raced = entries(PipelineConfig(auto=AutoConfig(fixed=fixed)), BEAUTY)
    assert len(raced) == 1
    assert raced[0][1] == PipelineConfig()


def test_another_family_takes_over_what_it_shares() -> None:
    preset = parse_config({"model": {"family": "deepfm", "dropout": 0.4}, "features": {"history_length": 10}})
    made = overlay(preset, {"model.family": "din"}).model
    assert (made.family, made.dropout, made.history_length) == ("din", 0.4, 10)  # type: ignore[union-attr]
    assert overlay(preset, {"model.family": "logistic_regression"}).model.family == "logistic_regression"
