"""Versions in a real registry: found by what they carry, rewritten with digests and tags that follow, given time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorefuse.core.errors import UsageError
from lorefuse.core.settings import settings
from lorefuse.erasure.export import export_user
from lorefuse.erasure.forget import forget
from lorefuse.erasure.plan import plan
from lorefuse.privacy.pseudonyms import KEY_VARIABLE, Pseudonymizer
from lorefuse.privacy.retrain import load_queue
from lorefuse.registry.tracking import connect
from lorefuse.registry.version import BUNDLE_TAG, fetch_bundle, get_version, promote
from tests.helpers import artifacts
from tests.unit.privacy.conftest import KEY, OTHER_KEY
from tests.unit.registry.conftest import Workbench, migrated_database, workbench

__all__ = ["migrated_database", "workbench"]
NAME = artifacts.CONFIG.registry.model_name


def test_only_versions_that_knew_them_change(workbench: Workbench, tmp_path: Path) -> None:
    workbench.register("a", vocabulary="anna@example.org")
    workbench.register("b", vocabulary="bob@example.org")
    before = {number: get_version(NAME, number).tags[BUNDLE_TAG] for number in ("1", "2")}
    _, receipt = forget("anna@example.org")
    assert [entry["version"] for entry in receipt["retrain"]] == ["1"]
    assert receipt["remaining"] == []
    after = {number: get_version(NAME, number).tags[BUNDLE_TAG] for number in ("1", "2")}
    assert after["1"] != before["1"]
    assert after["2"] == before["2"]
    bundle = fetch_bundle(NAME, "1", tmp_path / "fetched")  # holds every byte to the new digests
    assert bundle.read_json("vocabularies.json") == {"user_id": ["\0forgotten 0"]}
    run = connect().get_run(str(get_version(NAME, "1").run_id))
    assert run.data.tags[BUNDLE_TAG] == after["1"]
    (due,) = load_queue()
    path = settings().home_path / "privacy" / "retrain.json"
    path.write_text(path.read_text().replace(due.deadline, "2020-01-01T00:00:00+00:00"))
    with pytest.raises(UsageError, match="trained on people who were forgotten"):
        promote(NAME, "1", "champion")
    promote(NAME, "2", "champion")


def test_a_person_is_found_by_their_pseudonym(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Pseudonymizer(KEY)
    workbench.register("a", vocabulary=names.of("u1"))
    assert plan("u1").versions == []
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert [version.number for version in plan("u1").versions] == ["1"]
    assert export_user("u1")["known_as"] == ["u1", names.of("u1")]


def test_a_home_of_pseudonyms_wants_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Pseudonymizer(KEY)
    folder = settings().cache_path / "steps" / "ingest" / "one"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"privacy": {"pseudonyms": names.fingerprint}}))
    with pytest.raises(UsageError, match=f"the key {names.fingerprint}"):
        plan("u1")
    assert plan(names.of("u1")).other_keys == []
    monkeypatch.setenv(KEY_VARIABLE, OTHER_KEY)
    assert plan("u1").other_keys == [names.fingerprint]
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert plan("u1").other_keys == []


def test_a_home_that_holds_nothing_is_told_so_and_remembers() -> None:
    path, receipt = forget("anna@example.org")
    assert receipt["done"] == receipt["retrain"] == receipt["remaining"] == []
    assert "anna" not in path.read_text()
    assert (settings().home_path / "privacy" / "forgotten.jsonl").is_file()
