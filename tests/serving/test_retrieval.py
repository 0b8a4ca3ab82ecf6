"""A catalogue past one graph: found by an index, then ranked; beside the exact ranker in one Triton."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lorefuse.client import Client
from lorefuse.client.answers import Recommendation
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.data.dataset import Dataset
from lorefuse.deploy.control import Control
from lorefuse.deploy.deploy import deploy
from lorefuse.deploy.supervisor import Supervisor
from lorefuse.export.bundle import Bundle
from lorefuse.export.config_pbtxt import CONFIG_FILE, read_config
from lorefuse.export.model_repository import ModelRepository
from lorefuse.export.retrieval import hold_recall
from lorefuse.export.wire import text_array
from lorefuse.models.ranker import Ranker
from lorefuse.retrieval.index import load_index, search
from lorefuse.retrieval.vectors import TowerArrays, unit
from tests.helpers.synthetic_bundle import World, make_bundle

NUM_ITEMS, NUM_RETRIEVED = 5000, 600
TEMPLATE_PATH = Path(__file__).parents[2] / "serving" / "model_repository" / "retrieve" / "1"


@pytest.fixture(scope="module")
def large(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world with thousands of items more that nobody has seen; they differ in their words and categories."""
    path = tmp_path_factory.mktemp("large")
    (path / "dataset").mkdir()
    for name in ("feature_data", "vectors", "embeddings"):
        (path / name).symlink_to(world.path / name)
    for file in (world.path / "dataset").iterdir():
        (path / "dataset" / file.name).write_bytes(file.read_bytes())
    rng = np.random.default_rng(3)
    items, old = world.dataset.items(), len(world.training_set.item_fields)
    new = items.iloc[rng.integers(0, old, NUM_ITEMS - old)].assign(item_id=[f"n{n}" for n in range(old, NUM_ITEMS)])
    pd.concat([items, new], ignore_index=True).to_parquet(path / "dataset" / "items.parquet", index=False)
    manifest = world.dataset.manifest
    manifest = {**manifest, "sha256": {**manifest["sha256"]}}
    manifest["sha256"]["items.parquet"] = sha256_file(path / "dataset" / "items.parquet")
    write_json(path / "dataset" / "manifest.json", manifest)
    tables: dict[str, Any] = {}
    for name in ("item_fields", "item_multi", "item_numeric_now"):
        table = getattr(world.training_set, name)
        tables[name] = np.concatenate([table, table[rng.integers(0, old, NUM_ITEMS - old)]])
    tables["item_fields"][old:, 0] = 0
    knowledge = {
        name: np.concatenate([table, rng.normal(size=(NUM_ITEMS - old, table.shape[1])).astype(np.float32)])
        for name, table in world.training_set.knowledge.items()
    }
    training_set = dataclasses.replace(world.training_set, **tables, knowledge=knowledge)
    return World(path, world.config, Dataset.open(path / "dataset"), training_set)


def retrieving(world: World, **section: Any) -> World:
    """The world with a small two-tower and an index."""
    config = world.config
    retrieval = config.serving.retrieval.model_copy(update={"mode": "ann", **section})
    towers = config.retrieval.two_tower.model_copy(update={"embedding_dim": 8, "max_epochs": 2, "num_threads": 1})
    update = {
        "serving": config.serving.model_copy(update={"retrieval": retrieval}),
        "retrieval": config.retrieval.model_copy(update={"two_tower": towers}),
    }
    return dataclasses.replace(world, config=config.model_copy(update=update))


@pytest.fixture(scope="module")
def bundle(large: World, rankers: tuple[Ranker, Ranker]) -> Bundle:
    asked = retrieving(large, num_retrieved=NUM_RETRIEVED, num_probes=64)
    return Bundle.load(make_bundle(asked, rankers[0], large.path / "found"))


@pytest.fixture(scope="module")
def template() -> Iterator[ModuleType]:
    """The code that runs inside Triton."""
    sys.path.insert(0, str(TEMPLATE_PATH))
    try:
        yield importlib.import_module("retriever")
    finally:
        sys.path.remove(str(TEMPLATE_PATH))
        for name in ("retriever", "tables", "finder"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def retriever(bundle: Bundle, large: World, world: World, template: ModuleType) -> Any:
    ModelRepository(large.path / "repository").add(bundle.path, world.store_path, 1)
    return template.Retriever(str(large.path / "repository" / "retrieve" / "1"))


def test_the_bundle_carries_an_index_and_says_what_it_finds(bundle: Bundle) -> None:
    facts, parity = bundle.read_json("retrieval.json"), bundle.read_json("bundle.json")["parity"]
    assert bundle.retrieves
    assert "catalogue_ranker.onnx" not in bundle.sha256
    assert 0.95 <= facts[f"recall_at_{NUM_RETRIEVED}"] == parity[f"recall_at_{NUM_RETRIEVED}"] <= 1
    assert facts["recall_at_100"] >= facts[f"recall_at_{NUM_RETRIEVED}"] - 1e-9
    assert (facts["num_items"], facts["num_retrieved"]) == (NUM_ITEMS, NUM_RETRIEVED)
    assert 0 < parity["kept_of_top_10"] < 1
    for name in ("items.faiss", "two_tower.safetensors"):
        assert (bundle.path / name).read_bytes()[:2] not in (b"\x80\x04", b"\x80\x05"), "nothing is pickled"


def test_an_index_that_finds_too_little_is_refused(bundle: Bundle) -> None:
    arrays, index = TowerArrays.load(bundle.path), load_index(bundle.path)
    users = unit(arrays.item_vectors[::100])
    with pytest.raises(ArtifactError, match=r"at least 0\.99 [\s\S]*reading 1 of \d+ cells[\s\S]*num_probes to \d+"):
        hold_recall(index, arrays, users, NUM_RETRIEVED, 1, 0.99)


def test_what_runs_in_triton_answers_as_the_export_did(bundle: Bundle, retriever: Any) -> None:
    reference = bundle.arrays("reference_catalogue.safetensors")
    ids = [*(item_id.encode() for item_id in bundle.catalogue()[0]), b""]
    liked = np.array(ids, dtype=object)[reference["liked_rows"]]
    rows, scores = retriever.rank({**reference, "liked_item_id": liked})
    assert (rows == reference["catalogue_row"]).mean() > 0.99
    np.testing.assert_allclose(scores, reference["score"], atol=1e-5)


def test_much_may_be_excluded_and_the_number_found_stays(bundle: Bundle, retriever: Any) -> None:
    """Filters leave out most of the catalogue: more cells are read, none of the rest is missed for it."""
    vector = unit(TowerArrays.load(bundle.path).item_vectors[7:8])[0]
    items = unit(TowerArrays.load(bundle.path).item_vectors)
    allowed = np.flatnonzero(np.arange(NUM_ITEMS) % 5 == 0)
    for codes in (-2 - allowed, np.setdiff1d(np.arange(NUM_ITEMS), allowed)):
        rows = retriever.find(vector, codes)
        assert len(rows) == NUM_RETRIEVED
        assert np.isin(rows, allowed).all()
        nearest = allowed[np.argsort(-(items[allowed] @ vector))[:NUM_RETRIEVED]]
        assert np.isin(nearest, rows).mean() > 0.95
    few = np.array([3, 10, 4999])
    assert retriever.find(vector, -2 - few).tolist() == few.tolist()
    assert retriever.find(vector, np.array([-2 - NUM_ITEMS, -1])).tolist() == []
    assert len(retriever.find(vector, np.full(5, -1))) == NUM_RETRIEVED


@pytest.mark.parametrize("num_excluded", [0, 1, 30, NUM_RETRIEVED // 2, NUM_RETRIEVED // 2 + 1, NUM_ITEMS - 10])
def test_what_runs_in_triton_finds_what_the_export_does(bundle: Bundle, retriever: Any, num_excluded: int) -> None:
    """Few that may not be shown are fetched and thrown away; many are skipped within the search."""
    rng, vector = np.random.default_rng(num_excluded), unit(TowerArrays.load(bundle.path).item_vectors[7:8])[0]
    codes = np.append(rng.choice(NUM_ITEMS, num_excluded, replace=False), [-1, NUM_ITEMS, -1])
    excluded = np.isin(np.arange(NUM_ITEMS), codes)
    wanted = search(load_index(bundle.path), vector, excluded, NUM_RETRIEVED, 64)
    assert retriever.find(vector, np.append(codes, codes[:3])).tolist() == wanted.tolist()  # some of them twice


def test_a_version_of_an_older_release_ranks_by_the_graph_it_has(
    bundle: Bundle, retriever: Any, template: ModuleType, large: World, world: World, tmp_path: Path
) -> None:
    path = tmp_path / "old"
    shutil.copytree(bundle.path, path)
    content = bundle.read_json("bundle.json")
    for name in ("item_side.onnx", "candidate_ranker.onnx"):
        (path / name).unlink()
        del content["sha256"][name]
    write_json(path / "bundle.json", content)
    ModelRepository(tmp_path / "repository").add(path, world.store_path, 1)
    old = template.Retriever(str(tmp_path / "repository" / "retrieve" / "1"))
    reference = bundle.arrays("reference_catalogue.safetensors")
    liked = np.full((len(reference["user_fields"]), 1), b"", dtype=object)
    for got, wanted in zip(*(one.rank({**reference, "liked_item_id": liked}) for one in (old, retriever)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["item_side.npy", "candidate_ranker.onnx", "items.faiss", "two_tower.safetensors"])
@pytest.mark.parametrize("content", [b"", b"cut short"])
def test_what_is_damaged_is_told_from_a_fault(
    retriever: Any, template: ModuleType, large: World, tmp_path: Path, name: str, content: bytes
) -> None:
    shutil.copytree(large.path / "repository" / "retrieve" / "1", tmp_path / "1")
    (tmp_path / "1" / name).write_bytes(content)
    with pytest.raises(sys.modules["finder"].OPEN_ERRORS):
        template.Retriever(str(tmp_path / "1"))


def test_equal_scores_come_in_the_catalogues_order(bundle: Bundle, retriever: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(retriever, "_scores", lambda tensors, user, rows: np.full(len(rows), 0.5, np.float32))
    reference = bundle.arrays("reference_catalogue.safetensors")
    liked = np.full((len(reference["user_fields"]), 1), b"", dtype=object)
    rows, _ = retriever.rank({**reference, "liked_item_id": liked})
    assert (np.diff(rows, axis=1) > 0).all()


@pytest.fixture(scope="module")
def exact_and_whole(
    large: World, world: World, rankers: tuple[Ranker, Ranker], new_supervisor: Any
) -> tuple[Supervisor, dict[int, list[Recommendation]]]:
    """A server, and the answers of version 1, one graph, and of version 2, which finds the whole catalogue."""
    supervisor = new_supervisor()
    exact = make_bundle(large, rankers[0], large.path / "exact")
    whole = make_bundle(retrieving(large, num_retrieved=NUM_ITEMS), rankers[0], large.path / "whole")
    answers, reports = {}, {}
    for version, path in ((1, exact), (2, whole)):
        reports[version] = deploy(path, world.store_path, version, supervisor=supervisor)
        with Client(supervisor.url) as client:
            answers[version] = asked(client)
    assert reports[2]["side_by_side"], "no gap between one graph and an index"
    return supervisor, answers


def asked(client: Client) -> list[Recommendation]:
    """Every kind of request."""
    some = [f"n{n}" for n in range(100, 1300)]
    return [
        *(client.recommend(f"u{user}", 25) for user in range(8)),
        client.recommend("u1", 25, exclude_seen=False, filters={"genres": ["War"], "decade": ["1970s"]}),
        client.recommend("u2", 25, candidates=some),
        client.recommend("u2", 25, candidates=some[:7], context={"gender": "F"}),
        client.recommend("u2", 25, filters={"genres": ["Opera"]}),
        client.recommend("nobody", 10),
        client.recommend("nobody", 10, context={"gender": "M"}, filters={"decade": ["1980s"]}),
    ]


def test_finding_everything_answers_as_one_graph(
    exact_and_whole: tuple[Supervisor, dict[int, list[Recommendation]]],
) -> None:
    answers = exact_and_whole[1]
    for number, (graph, found) in enumerate(zip(answers[1], answers[2], strict=True)):
        assert [item.item_id for item in found.items] == [item.item_id for item in graph.items], number
        np.testing.assert_allclose(
            [item.score for item in found.items], [item.score for item in graph.items], atol=1e-5
        )
        assert (graph.model_version, found.model_version) == ("1", "2")
        assert (graph.data_cutoff, graph.liked_titles) == (found.data_cutoff, found.liked_titles)
    assert answers[2][11].items == []
    assert len(answers[2][-2].items) == 10


def test_finding_some_answers_with_the_best_of_the_nearest(
    bundle: Bundle,
    world: World,
    retriever: Any,
    exact_and_whole: tuple[Supervisor, dict[int, list[Recommendation]]],
) -> None:
    supervisor, answers = exact_and_whole
    report = deploy(bundle.path, world.store_path, 3, supervisor=supervisor)
    assert report["side_by_side"]
    assert report["max_score_difference"] <= 1e-5
    served = read_config(supervisor.repository.path / "direct" / CONFIG_FILE)
    assert not served.HasField("dynamic_batching"), "its requests share nothing, and would wait for each other"
    with Client(supervisor.url) as client:
        got = asked(client)
    # Where few items may be shown all are ranked: these answers are the exact ones.
    for number in (10, 11, 12, 13):
        assert [i.item_id for i in got[number].items] == [i.item_id for i in answers[1][number].items]
    # For the others the answer is the best of the nearest, as an exact search would find them.
    items, ids = unit(TowerArrays.load(bundle.path).item_vectors), np.array(bundle.catalogue()[0])
    overlaps = []
    for user in range(8):
        tensors = Control(supervisor.url).infer("features", {"user_id": text_array(f"u{user}")}, 3)
        vector = retriever.user_vectors(tensors["user_fields"], tensors["liked_rows"])[0]
        excluded = tensors["exclude_rows"][0]
        allowed = np.setdiff1d(np.arange(NUM_ITEMS), excluded[excluded >= 0])
        nearest = np.sort(allowed[np.argsort(-(items[allowed] @ vector))[:NUM_RETRIEVED]])
        best = nearest[np.argsort(-retriever._scores(tensors, 0, nearest), kind="stable")[:25]]
        overlaps.append(np.isin(ids[best], [item.item_id for item in got[user].items]).mean())
    assert np.mean(overlaps) > 0.95
