"""Columns of users and items with one name, and with names of ours: from files to answers of a real Triton."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorefuse.client import Client
from lorefuse.core.atomic import sha256_file
from lorefuse.core.errors import DeployError, UsageError
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.bundle import Bundle
from tests.helpers.synthetic_bundle import World, make_bundle, make_ranker, make_world

DECADES = ["1970s", "1980s", "1990s"]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Items have a gender as well as users, and their genres are called label."""
    return make_world(tmp_path_factory.mktemp("named"), decade="gender", genres="label")


@pytest.fixture(scope="module")
def bundle_path(named: World) -> Path:
    return make_bundle(named, make_ranker(named, 1), named.path / "bundle")


@pytest.fixture(scope="module")
def client(new_supervisor: Callable[[], Supervisor], named: World, bundle_path: Path) -> Client:
    supervisor = new_supervisor()
    deploy(bundle_path, named.store_path, 1, supervisor=supervisor)
    return Client(supervisor.url)


def test_both_sides_have_a_vocabulary(bundle_path: Path) -> None:
    vocabularies = Bundle.load(bundle_path).read_json("vocabularies.json")
    assert vocabularies["user_gender"] == ["F", "M"]
    assert vocabularies["gender"] == DECADES


@pytest.mark.triton
def test_users_are_served_as_they_were_trained(client: Client, named: World) -> None:
    ids = named.dataset.users()["user_id"]
    for row in range(len(ids)):
        got = client.user_tensors(ids[row])["user_fields"][0]
        assert got.tolist() == named.training_set.user_fields[row].tolist()


@pytest.mark.triton
def test_filters_and_context_take_the_names_of_the_files(client: Client, named: World) -> None:
    items = named.dataset.items().set_index("item_id")
    war = client.recommend("new", 25, filters={"label": "War", "gender": "1980s"}).items
    assert war
    for item in war:
        assert "War" in items.loc[item.item_id, "own_label"]
        assert items.loc[item.item_id, "gender"] == "1980s"
    assert client.recommend("new", 25, filters={"own_label": "War", "gender": "1980s"}).items == war
    lists = {gender: client.recommend("new", 10, context={"gender": gender}) for gender in "FM"}
    scores = {gender: [item.score for item in got.items] for gender, got in lists.items()}
    assert not np.allclose(*scores.values())
    assert client.recommend("new", 10, context={"user_gender": "F"}).items == lists["F"].items


@pytest.mark.triton
def test_unknown_columns_are_answered_with_the_names_of_the_files(client: Client) -> None:
    with pytest.raises(UsageError, match="it has: gender, label"):
        client.recommend("new", filters={"colour": "red"})
    with pytest.raises(UsageError, match="known: gender"):
        client.recommend("new", context={"colour": "red"})


@pytest.mark.triton
def test_a_version_that_serves_other_users_is_not_deployed(
    new_supervisor: Callable[[], Supervisor], named: World, bundle_path: Path, tmp_path: Path
) -> None:
    spoiled = make_bundle(named, make_ranker(named, 1), tmp_path / "bundle")
    facts = json.loads((spoiled / "serving.json").read_text())
    assert len(facts["reference_users"]) == 30
    content = json.loads((spoiled / "vocabularies.json").read_text())
    content["user_gender"] = DECADES  # the fault of keying vocabularies by a bare name
    (spoiled / "vocabularies.json").write_text(json.dumps(content))
    digests = json.loads((spoiled / "bundle.json").read_text())
    digests["sha256"]["vocabularies.json"] = sha256_file(spoiled / "vocabularies.json")
    (spoiled / "bundle.json").write_text(json.dumps(digests))
    with pytest.raises(DeployError, match="serves other users than it was trained on"):
        deploy(spoiled, named.store_path, 1, supervisor=new_supervisor())
