"""Graph vectors: columns counted by hand, fitted on train items, refused where links look random."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorefuse.config import KnowledgeConfig
from lorefuse.knowledge.graph import item_graph_vectors, neighbourhoods
from lorefuse.knowledge.plausibility import category_sets, link_z_score
from tests.helpers.graph_world import GENRES, make_dataset

CONFIG = KnowledgeConfig(graph_dim=8, min_link_z=3)


def all_items(count: int = 120) -> set[str]:
    return {f"i{n}" for n in range(count)}


def test_neighbours_are_counted_by_relation_and_direction() -> None:
    triples = pd.DataFrame(
        [("a", "likes", "b"), ("b", "likes", "a"), ("a", "knows", "b"), ("c", "likes", "d")],
        columns=["head", "relation", "tail"],
    )
    # Columns in order of their names: knows<a, knows>b, likes<a, likes<b, likes>a, likes>b.
    counts = neighbourhoods(pd.Series(["a", "b", "nowhere", "a"]), triples).toarray()
    assert counts.tolist() == [[0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0], [0] * 6, [0, 1, 0, 1, 0, 1]]


def test_vectors_are_unit_length_and_zero_where_unlinked(tmp_path: Path) -> None:
    vectors, has_graph, report = item_graph_vectors(make_dataset(tmp_path / "d"), all_items(), CONFIG)
    assert vectors.shape == (120, 8)
    assert vectors.dtype == np.float32
    assert has_graph.tolist() == [True] * 100 + [False] * 20
    np.testing.assert_allclose(np.linalg.norm(vectors[:100], axis=1), 1, rtol=1e-5)
    assert not vectors[100:].any()
    assert report["used"]
    assert report["num_linked_items"] == 100
    assert report["link_z"] > 10


def test_an_entity_of_which_nothing_is_known_has_no_vector(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d")
    triples = dataset.triples()
    assert triples is not None
    triples[~triples[["head", "tail"]].eq("e5").any(axis=1)].to_parquet(dataset.path / "triples.parquet")
    vectors, has_graph, _ = item_graph_vectors(dataset, all_items(), CONFIG)
    assert not has_graph[5]
    assert not vectors[5].any()
    assert has_graph[:100].sum() == 99


def test_items_of_one_genre_are_close(tmp_path: Path) -> None:
    vectors, _, _ = item_graph_vectors(make_dataset(tmp_path / "d"), all_items(), CONFIG)
    cosines = vectors[:100] @ vectors[:100].T
    same = np.equal.outer(np.arange(100) % len(GENRES), np.arange(100) % len(GENRES))
    assert cosines[same].mean() > 0.3
    assert cosines[~same].mean() < 0


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d")
    first, _, _ = item_graph_vectors(dataset, all_items(), CONFIG)
    second, _, _ = item_graph_vectors(dataset, all_items(), CONFIG)
    assert first.tobytes() == second.tobytes()


def test_items_outside_train_change_nothing_of_the_others(tmp_path: Path) -> None:
    train = all_items(60)
    few, _, _ = item_graph_vectors(make_dataset(tmp_path / "few", num_unlinked=40), train, CONFIG)
    many, has_graph, _ = item_graph_vectors(make_dataset(tmp_path / "many", num_unlinked=0), train, CONFIG)
    np.testing.assert_allclose(few[:60], many[:60], atol=1e-5)
    assert has_graph[60:].all()  # an item that is new gets a vector from its entity all the same


def test_links_that_look_random_are_refused_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        vectors, has_graph, report = item_graph_vectors(
            make_dataset(tmp_path / "d", shuffle_links=True), all_items(), CONFIG
        )
    assert vectors.shape == (120, 0)
    assert not has_graph.any()
    assert not report["used"]
    assert report["link_z"] < 3
    assert "links look random" in report["reason"]
    assert "not used" in caplog.text


def test_links_that_cannot_be_checked_are_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, has_graph, report = item_graph_vectors(make_dataset(tmp_path / "d", categories=False), all_items(), CONFIG)
    assert has_graph.any()
    assert report["link_z"] is None
    assert "cannot be checked" in caplog.text


def test_a_dataset_without_a_graph_gives_no_columns(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d")
    (dataset.path / "links.parquet").unlink()
    vectors, has_graph, report = item_graph_vectors(dataset, all_items(), CONFIG)
    assert vectors.shape == (120, 0)
    assert not has_graph.any()
    assert report == {"used": False, "reason": "the dataset has no graph"}


@pytest.mark.parametrize("num_train", [0, 1, 3])
def test_more_dimensions_than_the_train_items_allow_are_not_made(tmp_path: Path, num_train: int) -> None:
    vectors, has_graph, _ = item_graph_vectors(make_dataset(tmp_path / "d"), all_items(num_train), CONFIG)
    assert vectors.shape[1] <= max(num_train - 1, 0)
    assert np.isfinite(vectors).all()
    assert has_graph.any() == (vectors.shape[1] > 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_z_score_tells_right_links_from_shuffled_ones(tmp_path: Path, seed: int) -> None:
    dataset = make_dataset(tmp_path / "d")
    items, links, triples = dataset.items(), dataset.links(), dataset.triples()
    assert links is not None
    assert triples is not None
    categories = category_sets(items, ("decade",), ("genres",)).loc[links["item_id"]]
    neighbours = neighbourhoods(links["entity_id"], triples)
    order = np.random.default_rng(seed).permutation(len(links))
    assert link_z_score(categories, neighbours, seed) > 10
    assert abs(link_z_score(categories, neighbours[order], seed)) < 3.5


def test_nothing_to_compare_is_no_evidence() -> None:
    alike = pd.Series([["one"]] * 20)
    assert link_z_score(alike, neighbourhoods(pd.Series(["a"] * 20), _edges("a"))) == 0
    few = pd.Series([["one"], ["two"]])
    assert link_z_score(few, neighbourhoods(pd.Series(["a", "b"]), _edges("a", "b"))) == 0


def _edges(*heads: str) -> pd.DataFrame:
    return pd.DataFrame([(head, "r", "x") for head in heads], columns=["head", "relation", "tail"])


def test_categories_are_named_by_their_column() -> None:
    items = pd.DataFrame({"item_id": ["1", "2"], "decade": ["1990s", ""], "genres": [["war", "crime"], []]})
    sets = category_sets(items, ("decade",), ("genres",))
    assert sets.to_dict() == {"1": ["decade=1990s", "genres=war", "genres=crime"], "2": []}
