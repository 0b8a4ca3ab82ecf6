"""New items join a catalogue: they score from their words, and nothing else changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lorefuse.core.atomic import atomic_folder, sha256_file, sha256_json
from lorefuse.core.errors import ArtifactError, UsageError
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.embedding.fingerprint import space_of
from lorefuse.export.bundle import TABLES_FILE, Bundle
from lorefuse.export.grow import grow_bundle
from lorefuse.export.session import open_session
from lorefuse.knowledge.own_vectors import more_items
from lorefuse.models.build import load_ranker
from lorefuse.retrieval.index import load_index
from lorefuse.retrieval.vectors import TowerArrays, unit
from tests.helpers.synthetic_bundle import NUM_ITEMS, World, make_bundle, make_ranker, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def bundle(world: World) -> Bundle:
    return of_the_real_encoder(world, world.path / "bundle")


def of_the_real_encoder(world: World, path: Path) -> Bundle:
    """A bundle that says it was made with the real encoder, whose vectors its reducer then takes."""
    make_bundle(world, make_ranker(world, 1), path)
    facts = json.loads((path / "embedding.json").read_text())
    facts["address"] = sha256_json(space_of(world.config.embedding))
    (path / "embedding.json").write_text(json.dumps(facts))
    manifest = json.loads((path / "bundle.json").read_text())
    manifest["sha256"]["embedding.json"] = sha256_file(path / "embedding.json")
    (path / "bundle.json").write_text(json.dumps(manifest))
    return Bundle.load(path)


@pytest.fixture(scope="module")
def later(world: World) -> Dataset:
    """The dataset after the shop has added two items, of which one is of a category nobody has seen."""
    items = pd.read_parquet(world.path / "items.parquet")
    new = pd.DataFrame(
        {
            "item_id": ["new-1", "new-2"],
            "title": ["A war at sea", "Something else"],
            "genres": ["War|Drama", "Opera"],
            "decade": ["1980s", "2090s"],
        }
    )
    path = world.path / "later.parquet"
    pd.concat([new, items], ignore_index=True).to_parquet(path, index=False)
    source = world.config.data.source.model_copy(update={"items_path": path})
    (world.path / "later").mkdir()
    ingest(world.config.data.model_copy(update={"source": source}), world.path / "later")
    return Dataset.open(world.path / "later")


def grown(bundle: Bundle, dataset: Dataset, path: Path) -> tuple[Bundle, dict[str, object]]:
    with atomic_folder(path) as draft_path:
        facts = grow_bundle(bundle, dataset, draft_path)
    return Bundle.load(path), facts


def test_new_items_come_after_the_old_ones(bundle: Bundle, later: Dataset, tmp_path: Path) -> None:
    new_bundle, facts = grown(bundle, later, tmp_path / "grown")
    old_ids, old_titles = bundle.catalogue()
    ids, titles = new_bundle.catalogue()
    assert (facts["num_new"], facts["num_items"]) == (2, NUM_ITEMS + 2)
    assert ids == [*old_ids, "new-1", "new-2"]
    assert titles == [*old_titles, "A war at sea", "Something else"]
    assert new_bundle.filters()["genres"]["Opera"] == [NUM_ITEMS + 1]
    assert new_bundle.digest != bundle.digest
    changed = {name for name in bundle.sha256 if bundle.sha256[name] != new_bundle.sha256[name]}
    assert "ranker.onnx" not in changed
    assert "model.safetensors" not in changed


def test_their_tensors_are_those_of_an_item_nobody_has_seen(bundle: Bundle, later: Dataset, tmp_path: Path) -> None:
    new_bundle, _ = grown(bundle, later, tmp_path / "grown")
    before, after = bundle.arrays(TABLES_FILE), new_bundle.arrays(TABLES_FILE)
    for name, table in before.items():
        np.testing.assert_array_equal(after[name][:NUM_ITEMS], table)
    known, unknown = after["item_fields"][NUM_ITEMS:]
    assert known[0] == unknown[0] == 0, "the id is unseen"
    assert known[1] > 0
    assert unknown[1] == 0, "a decade that training has not seen"
    assert (after["item_multi"][NUM_ITEMS] > 0).sum() == 2
    assert not after["item_multi"][NUM_ITEMS + 1].any()
    assert np.abs(after["item_text"][NUM_ITEMS:]).sum(1).min() > 0
    assert not after["item_graph"][NUM_ITEMS:].any()
    assert after["item_sound"][NUM_ITEMS:].any(axis=1).tolist() == [True, False], "of new-1 the file has a vector"
    expected = more_items(["new-1"], bundle.config().knowledge, bundle.path)["sound"]
    np.testing.assert_array_equal(after["item_sound"][NUM_ITEMS:][:1], expected)


def test_the_new_graph_ranks_old_and_new_items_as_torch_does(bundle: Bundle, later: Dataset, tmp_path: Path) -> None:
    new_bundle, _ = grown(bundle, later, tmp_path / "grown")
    reference = new_bundle.arrays("reference_catalogue.safetensors")
    session = open_session(new_bundle.path / "catalogue_ranker.onnx")
    inputs = {entry.name: reference[entry.name] for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]
    got = dict(zip(names, session.run(None, inputs), strict=True))
    np.testing.assert_allclose(got["score"], reference["score"], atol=1e-5)
    ranker = load_ranker(new_bundle.path)
    tables = {name: torch.from_numpy(table) for name, table in new_bundle.arrays(TABLES_FILE).items()}
    user = {name: array[:1] for name, array in inputs.items() if name != "exclude_rows"}
    rows = len(next(iter(tables.values())))
    repeated = {name: torch.from_numpy(array).expand(rows, *array.shape[1:]) for name, array in user.items()}
    with torch.no_grad():
        expected = ranker.to_score(ranker(**repeated, **tables)).numpy()
    np.testing.assert_allclose(np.sort(expected)[::-1][: got["score"].shape[1]], got["score"][0], atol=1e-5)


def test_new_items_join_an_index(world: World, later: Dataset, tmp_path: Path) -> None:
    """Past one graph: towers and index take them in, old items keep their places, references are answered anew."""
    config = world.config
    section = config.serving.retrieval.model_copy(update={"mode": "ann", "num_retrieved": 30})
    towers = config.retrieval.two_tower.model_copy(update={"embedding_dim": 8, "max_epochs": 1, "num_threads": 1})
    update = {
        "serving": config.serving.model_copy(update={"retrieval": section}),
        "retrieval": config.retrieval.model_copy(update={"two_tower": towers}),
    }
    old = of_the_real_encoder(dataclasses.replace(world, config=config.model_copy(update=update)), tmp_path / "old")
    new, facts = grown(old, later, tmp_path / "new")
    assert new.retrieves
    assert (facts["num_items"], facts["num_new"], facts["recall_at_30"]) == (NUM_ITEMS + 2, 2, 1.0)
    before, after = TowerArrays.load(old.path).item_vectors, TowerArrays.load(new.path).item_vectors
    np.testing.assert_array_equal(after[:NUM_ITEMS], before)
    index = load_index(new.path)
    assert index.ntotal == NUM_ITEMS + 2
    assert index.search(unit(after[-2:]), 1)[1][:, 0].tolist() == [NUM_ITEMS, NUM_ITEMS + 1]
    reference = new.arrays("reference_catalogue.safetensors")
    assert (reference["catalogue_row"] >= NUM_ITEMS).any(), "some of them are recommended"


def test_nothing_new_is_said(bundle: Bundle, world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no new item"):
        grow_bundle(bundle, world.dataset, tmp_path)


def test_another_encoder_is_refused(world: World, later: Dataset, tmp_path: Path) -> None:
    foreign = Bundle.load(make_bundle(world, make_ranker(world, 2), tmp_path / "foreign"))
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="encoder"):
        grow_bundle(foreign, later, tmp_path / "out")
