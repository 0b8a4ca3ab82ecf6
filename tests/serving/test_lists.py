"""Two stages in a real Triton: what a blend finds and the ranker orders is what was judged, filters and all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorefuse.client import Client
from lorefuse.core.errors import ArtifactError, DeployError
from lorefuse.core.schema import View
from lorefuse.deploy.control import Control
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.bundle import Bundle
from lorefuse.export.grow import grow_bundle
from lorefuse.export.stages import OnnxStages, hold_lists
from lorefuse.export.wire import text_array
from lorefuse.feature_store.store import online_features
from lorefuse.models.ranker import Ranker
from tests.helpers.caller import reseal
from tests.helpers.synthetic_bundle import NUM_ITEMS, World, grow, make_bundle, make_lists

SMALL = {
    "num_candidates": 15,
    "num_neighbours": 20,
    "shrinkage": 1.0,
    "ranker": "list",
    "views": ("ease", "item_knn", "content", "sasrec"),
}


@pytest.fixture(scope="module")
def blending(world: World) -> World:
    """The world with a candidate stage."""
    sasrec = world.config.retrieval.sasrec.model_copy(
        update={"embedding_dim": 8, "history_length": 5, "max_epochs": 1, "num_threads": 1}
    )
    config = world.config.model_copy(
        update={
            "candidates": world.config.candidates.model_copy(update=SMALL),
            "retrieval": world.config.retrieval.model_copy(update={"sasrec": sasrec}),
        }
    )
    return dataclasses.replace(world, config=config)


@pytest.fixture(scope="module")
def bundle(blending: World, rankers: tuple[Ranker, Ranker], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("lists")
    stages_path = make_lists(blending, rankers[0], path / "made")
    assert (stages_path / "list_ranker" / "model.safetensors").is_file()
    return Bundle.load(make_bundle(blending, rankers[0], path / "bundle", stages_path))


@pytest.fixture(scope="module")
def lists_url(new_supervisor: Callable[[], Supervisor], bundle: Bundle, world: World) -> str:
    supervisor = new_supervisor()
    assert deploy(bundle.path, world.store_path, 1, supervisor=supervisor)["max_score_difference"] <= 1e-5
    return supervisor.url


def test_a_version_carries_its_stages_and_what_they_are_worth(bundle: Bundle) -> None:
    assert bundle.retrieves
    assert bundle.blends
    assert "catalogue_ranker.onnx" not in bundle.sha256
    lists = bundle.lists()
    assert lists is not None
    assert lists["facts"]["ordered_by"] == "ranker"
    assert "served" in lists["lists"]
    assert bundle.read_json("bundle.json")["parity"]["same_items"] >= 0.999


def test_triton_shows_the_lists_of_the_files(lists_url: str, bundle: Bundle) -> None:
    served, ids = OnnxStages(bundle.path), np.array(bundle.catalogue()[0])
    with Client(lists_url) as client:
        for user in ("u0", "u3", "u11", "somebody new"):
            expected = served.answer(Control(lists_url).infer("features", {"user_id": text_array(user)}, 1))
            got = client.recommend(user, 10)
            rows = expected["catalogue_row"][0][:10]
            assert [item.item_id for item in got.items] == ids[rows[rows >= 0]].tolist()
            scores = [item.score for item in got.items]
            np.testing.assert_allclose(scores, expected["score"][0][: len(scores)], atol=1e-5)
            assert all(0 <= item.score <= 1 for item in got.items)


def test_filters_and_candidates_bound_what_is_shown(lists_url: str, bundle: Bundle) -> None:
    filters = bundle.filters()["decade"]
    ids = bundle.catalogue()[0]
    with Client(lists_url) as client:
        for decade, rows in filters.items():
            answer = client.recommend("u3", 25, filters=[f"decade={decade}"], exclude_seen=False)
            assert {item.item_id for item in answer.items} == {ids[row] for row in rows}
        listed = client.recommend("u3", 10, candidates=[ids[4], ids[9], "no such item"], exclude_seen=False)
        assert {item.item_id for item in listed.items} == {ids[4], ids[9]}
        assert client.recommend("u3", 10, filters=["decade=1600s"]).items == []


def test_what_was_seen_is_left_out_and_newcomers_get_an_answer(lists_url: str, world: World) -> None:
    seen = set(online_features(world.store_path, View.USER_HISTORY, ["seen"], ["u3"]).loc[0, "seen"])
    with Client(lists_url) as client:
        assert not seen & {item.item_id for item in client.recommend("u3", 25).items}
        assert len(client.recommend("somebody new", 5).items) == 5


@pytest.mark.parametrize("name", ["candidates.safetensors", "candidates.json", "sasrec.onnx", "candidate_ranker.onnx"])
def test_a_version_without_its_tables_is_refused(bundle: Bundle, name: str, tmp_path: Path) -> None:
    copy_path = tmp_path / "bundle"
    copy_path.mkdir()
    for file in bundle.path.iterdir():
        if file.name != name:
            (copy_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ArtifactError, match=name):
        Bundle.load(copy_path)


def test_a_damaged_table_leaves_what_answers(
    new_supervisor: Callable[[], Supervisor], bundle: Bundle, world: World, tmp_path: Path
) -> None:
    supervisor = new_supervisor()
    deploy(bundle.path, world.store_path, 1, supervisor=supervisor)
    bad_path = tmp_path / "bad"
    bad_path.mkdir()
    for file in bundle.path.iterdir():
        (bad_path / file.name).write_bytes(file.read_bytes())
    (bad_path / "candidates.safetensors").write_bytes(b"not tables")
    reseal(bad_path, "candidates.safetensors")
    with pytest.raises(DeployError):
        deploy(bad_path, world.store_path, 2, supervisor=supervisor)
    with Client(supervisor.url) as client:
        assert client.recommend("u3", 3).model_version == "1"


def test_new_items_join_without_training(blending: World, world: World, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "grown").mkdir()
    (tmp_path / "later").mkdir()
    later = grow(world, tmp_path / "later")
    with pytest.MonkeyPatch.context() as patch:
        from lorefuse.export import grow as room

        patch.setattr(room, "_text_vectors", lambda *_: world.training_set.knowledge["text"][:1])
        facts = grow_bundle(bundle, later.dataset, tmp_path / "grown")
    assert facts["num_new"] == 1
    stages = OnnxStages(tmp_path / "grown")
    assert stages.stages.num_items == NUM_ITEMS + 1
    answer = stages.answer(Bundle.load(tmp_path / "grown").arrays("reference_catalogue.safetensors"))
    assert answer["catalogue_row"].max() <= NUM_ITEMS


def test_other_lists_than_the_judged_ones_are_refused() -> None:
    judged = np.arange(40).reshape(2, 20)
    assert hold_lists(judged, judged) == 1
    with pytest.raises(ArtifactError, match="other lists than those that were judged"):
        hold_lists(judged[:, ::-1], judged)
