"""A preset without a model races; every other command goes by what the race chose."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lorefuse.auto.choice_file import CHOICE_FILE, asked_digest, read_choice
from lorefuse.auto.pinned import as_chosen, load_chosen, pin, pinned_path
from lorefuse.config import AutoConfig, PipelineConfig, load_config, parse_config
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError, ConfigError


def _written(path: Path, text: str) -> PipelineConfig:
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize(
    ("text", "auto"),
    [
        ("name: shop\n", AutoConfig()),
        ("auto: {budget_s: 5}\n", AutoConfig(budget_s=5.0)),
        ("auto: null\n", None),
        ("model: {family: din}\n", None),
        ("model: {family: din}\nauto: {}\n", AutoConfig(fixed=("model.family",))),
        (
            "embedding: {reduce_dim: 8}\nauto: {fixed: [training.max_epochs]}\n",
            AutoConfig(fixed=("embedding.reduce_dim", "training.max_epochs")),
        ),
        ("data: {max_bad_share: 0.5}\n", AutoConfig()),
    ],
)
def test_a_file_races_where_it_names_no_model(text: str, auto: AutoConfig | None, tmp_path: Path) -> None:
    assert _written(tmp_path / "shop.yaml", text).auto == auto


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auto: {budget_s: 0}\n", ("auto.budget_s", "greater than 0")),
        ("auto: {budget_s: -5}\n", ("auto.budget_s", "greater than 0")),
        ("auto: {budget: 5}\n", ("auto.budget: unknown key",)),
        ("auto: quick\n", ("auto", "quick")),
        ("auto: {fixed: [nowhere.at]}\n", ("auto.fixed", "nowhere.at")),
        ("auto: {fixed: model.family}\n", ("auto.fixed",)),
    ],
)
def test_a_mistake_is_named(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _written(tmp_path / "shop.yaml", text)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert caught.value.exit_code == 2


def _race(config: PipelineConfig, folder_path: Path) -> Path:
    chosen = parse_config({"name": config.name, "model": {"family": "din"}})
    content = {
        "asked": asked_digest(config), "auto": {"budget_s": 5.0}, "chosen": "din", "why": "best of 2", "score": 0.8,
        "elapsed_s": 1.0, "configurations": [], "sequence": None, "config": chosen.model_dump(mode="json"),
    }  # fmt: skip
    folder_path.mkdir()
    write_json(folder_path / CHOICE_FILE, content)
    return folder_path


def test_the_choice_is_a_preset_that_the_other_commands_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOREFUSE_HOME", str(tmp_path / "home"))
    path = tmp_path / "shop.yaml"
    asked = _written(path, "name: shop\n")
    with caplog.at_level(logging.WARNING):
        assert load_chosen(path) == parse_config({"name": "shop"})
    assert "no race has chosen" in caplog.text
    with pytest.raises(ConfigError, match="none has chosen yet"):
        load_chosen(path, required=True)
    chosen = pin(asked, _race(asked, tmp_path / "race"))
    assert chosen.auto is None
    assert load_chosen(path, required=True) == chosen
    assert load_config(pinned_path("shop")) == chosen, "it runs as it is, without a race"
    assert as_chosen(chosen) == chosen
    changed = _written(path, "name: shop\nauto: {seed: 1}\n")
    with pytest.raises(ConfigError, match="another preset's"):
        as_chosen(changed, required=True)


def test_a_race_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    assert read_choice(None) is None
    assert read_choice(tmp_path) is None
    for text in ("{", "[]", '{"chosen": "din"}'):
        (tmp_path / CHOICE_FILE).write_text(text)
        with pytest.raises(ArtifactError, match="not whole"):
            read_choice(tmp_path)
