"""A small shop whose preset names no model: the race from files to a pinned choice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from lorefuse import steps
from lorefuse.auto import choose as room
from lorefuse.auto import portfolio
from lorefuse.auto.choose import choose
from lorefuse.auto.pinned import load_chosen, pinned_path
from lorefuse.config import PipelineConfig, load_config, parse_config
from lorefuse.core.errors import DataError
from lorefuse.steps.choice import raced_vectors
from tests.helpers.shop import write_preset, write_shop

RACED = ("deepfm", "din_words_small", "linear")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The shop's preset, dataset, split and texts in a home that all tests here share, and a portfolio of three."""
    path = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOREFUSE_HOME", str(path / "home"))
        small = tuple(one for one in portfolio.PORTFOLIO if one.name in RACED)
        patch.setattr(portfolio, "PORTFOLIO", small)
        write_shop(path / "data")
        changes = {"training__max_epochs": 2, "embedding__reduce_dim": 8, "candidates__mode": "none"}
        preset = write_preset(path / "data", name="open-shop", model=None, **changes)
        content = steps.dump_config(load_config(preset))
        dataset = steps.ingest(content).path
        parts = steps.split(content, "per_user_time", dataset).path
        texts = steps.embed(content, dataset).path
        yield SimpleNamespace(
            preset=preset, content=content, dataset=dataset, parts=parts, texts=texts, home=path / "home"
        )


@pytest.fixture(autouse=True)
def _one_home(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has encoded the next one finds."""
    monkeypatch.setenv("LOREFUSE_HOME", str(shop.home))


def _chosen(shop: Any) -> dict[str, Any]:
    result = steps.choose(shop.content, shop.dataset, shop.parts, shop.texts)
    return {"result": result, "race": json.loads((result.path / "choice.json").read_text("utf-8"))}


def test_the_race_is_written_down_pinned_and_not_run_again(shop: Any) -> None:
    first = _chosen(shop)
    race = first["race"]
    assert [one["name"] for one in race["configurations"]] == list(RACED)
    for one in race["configurations"]:
        assert [entry["state"] for entry in one["rungs"]] == ["done"]
        assert one["rungs"][0]["figures"]["auc_warm"] > 0.5
    best = max(race["configurations"], key=lambda one: one["rungs"][0]["score"])
    assert race["chosen"] == best["name"]
    assert race["sequence"] == {"taken": False, "why": "no list of candidates is learned here"}
    chosen = parse_config(first["result"].summary["config"])
    assert chosen.auto is None
    assert (chosen.training.max_epochs, chosen.embedding.reduce_dim) == (2, 8), "the preset's own settings stay"
    again = _chosen(shop)
    assert again["result"].reused
    assert again["race"] == race
    assert load_config(pinned_path("open-shop")) == load_chosen(shop.preset, required=True) == chosen
    vectors = steps.item_vectors(first["result"].summary["config"], shop.dataset, shop.parts, _texts(shop, chosen))
    assert vectors.reused, "what the winner reads was made for the race"


def _texts(shop: Any, config: PipelineConfig) -> Path:
    return steps.embed(steps.dump_config(config), shop.dataset).path


def test_one_that_fails_is_written_down_and_the_others_race_on(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataclasses.replace(portfolio.PORTFOLIO[0], name="broken", settings={"training.device": "nowhere"})
    starved = dataclasses.replace(
        portfolio.PORTFOLIO[0], name="starved", settings={"embedding.word_dim": 16, "embedding.encoder": "/nowhere"}
    )
    few = (broken, starved, next(one for one in portfolio.PORTFOLIO if one.name == "linear"))
    monkeypatch.setattr(portfolio, "PORTFOLIO", few)
    config = load_config(shop.preset)
    assert config.auto is not None
    config = config.model_copy(update={"auto": config.auto.model_copy(update={"fixed": ()})})
    choose(shop.dataset, shop.parts, config, raced_vectors(shop.dataset, shop.parts), tmp_path)
    race = json.loads((tmp_path / "choice.json").read_text("utf-8"))
    outcomes = {one["name"]: one["rungs"][0] for one in race["configurations"]}
    assert {name: entry["state"] for name, entry in outcomes.items()} == {
        "broken": "failed", "starved": "failed", "linear": "done",
    }  # fmt: skip
    assert race["chosen"] == "linear"
    assert "nowhere" in outcomes["broken"]["error"]
    assert "nowhere" in outcomes["starved"]["error"]
    monkeypatch.setattr(portfolio, "PORTFOLIO", (broken, starved))
    with pytest.raises(DataError, match="No configuration of the portfolio could be trained"):
        choose(shop.dataset, shop.parts, config, raced_vectors(shop.dataset, shop.parts), tmp_path)


def test_a_budget_too_small_takes_what_suits_the_data_and_says_so(shop: Any, tmp_path: Path) -> None:
    config = load_config(shop.preset)
    assert config.auto is not None
    config = config.model_copy(update={"auto": config.auto.model_copy(update={"budget_s": 1e-6})})
    summary = choose(shop.dataset, shop.parts, config, raced_vectors(shop.dataset, shop.parts), tmp_path)
    race = json.loads((tmp_path / "choice.json").read_text("utf-8"))
    assert summary == {"chosen": RACED[0], "tried": "0 of 3", "sequence": "left out"}
    assert {entry["state"] for one in race["configurations"] for entry in one["rungs"]} == {"not tried"}
    assert "by its profile" in race["why"]


def test_a_preset_that_names_its_model_runs_as_it_is(shop: Any) -> None:
    path = shop.preset.with_name("named.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(shop.preset.read_text()) | {"model": {"family": "fm"}}))
    content = steps.dump_config(load_config(path))
    result = steps.choose(content, shop.dataset, shop.parts, shop.texts)
    assert result.summary["config"] == content
    assert not (result.path / "choice.json").exists()


def test_users_are_sampled_where_rows_are_many(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_ROWS", 1000)
    monkeypatch.setattr(portfolio, "PORTFOLIO", portfolio.PORTFOLIO[-1:])
    choose(shop.dataset, shop.parts, load_config(shop.preset), raced_vectors(shop.dataset, shop.parts), tmp_path)
    (one,) = json.loads((tmp_path / "choice.json").read_text("utf-8"))["configurations"]
    assert one["rungs"][0]["figures"]["num_train"] < 1000
