"""Commands mean the model that somebody has, whatever it is called."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lorefuse.cli.main import app
from lorefuse.core.errors import UsageError
from lorefuse.registry.models import DEFAULT_MODEL, known_models, model_of
from lorefuse.registry.tracking import connect
from lorefuse.registry.version import BUNDLE_TAG, aliases, promote
from tests.unit.registry.conftest import Workbench


def _make(name: str, alias: str = "") -> None:
    client = connect()
    client.create_registered_model(name)
    client.create_model_version(name, "file:///nowhere", tags={BUNDLE_TAG: "x"})
    if alias:
        promote(name, "1", alias)


def test_the_model_of_a_home(workbench: Workbench) -> None:
    assert model_of(None) == DEFAULT_MODEL
    _make("mine", "champion")
    assert known_models() == {"mine": {"champion": "1"}}
    assert (model_of(None), model_of("other")) == ("mine", "other")
    _make("tried", "challenger")
    assert model_of(None) == "mine"
    _make("second", "champion")
    with pytest.raises(UsageError, match=r"(?s)mine, second.*--model mine"):
        model_of(None)
    _make(DEFAULT_MODEL, "champion")
    assert model_of(None) == DEFAULT_MODEL


def test_status_shows_the_models_that_are_there(workbench: Workbench) -> None:
    _make("mine", "champion")
    said = CliRunner().invoke(app, ["status"])
    assert "mine@champion: version 1" in said.output
    assert DEFAULT_MODEL not in said.output


def test_an_alias_that_nothing_follows_is_refused(workbench: Workbench) -> None:
    _make("mine")
    with pytest.raises(UsageError, match=r"(?s)Nothing follows the alias Champion.*--alias champion"):
        promote("mine", "1", "Champion")
    promote("mine", "1", "my-own")
    assert aliases("mine") == {"my-own": "1"}
