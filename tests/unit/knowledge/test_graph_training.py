"""Training on triples: a world with rules is learned, by seed; ranks are filtered and counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from lorefuse.config import KnowledgeConfig
from lorefuse.knowledge.graph import item_graph_vectors
from lorefuse.knowledge.graph_training import link_prediction, train_graph
from lorefuse.knowledge.translation import TransE
from lorefuse.knowledge.triples import IndexedTriples
from tests.helpers.graph_world import GENRES, make_dataset

METHODS = ("transe", "rotate", "kgat")


def config(method: str, **fields: object) -> KnowledgeConfig:
    small = {"graph_dim": 8, "epochs": 25, "batch_size": 128, "num_negatives": 16, "held_out_share": 0.05}
    small |= {"learning_rate": 0.1}
    return KnowledgeConfig.model_validate({"method": method, **small, **fields})


def everything(count: int = 120) -> set[str]:
    return {f"i{n}" for n in range(count)}


def test_ranks_leave_out_other_facts_and_count_ties_half() -> None:
    graph = IndexedTriples.of(pd.DataFrame([("a", "r", "b"), ("a", "r", "c")], columns=["head", "relation", "tail"]))
    model = TransE(3, 1, 2)
    model.relation.data[:] = 0
    model.entity.weight.data[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    # Tails of (a, r, ?), the true b: c is nearer but a fact, a itself at distance 0 is nearer: rank 2.
    # Heads of (?, r, b): b at 0, c at 0.63, a at 1.41: rank 3.
    report = link_prediction(model, graph, np.array([0]))
    assert report == {"mrr": round((1 / 2 + 1 / 3) / 2, 4), "hits_at_10": 1.0, "num_ranked": 2}
    model.entity.weight.data[:] = torch.tensor([[1.0, 0.0]] * 3)
    # All the same: tail b ties with a (c is left out): rank 1.5; head a ties with b and c: rank 2.
    assert link_prediction(model, graph, np.array([0]))["mrr"] == round((1 / 1.5 + 1 / 2) / 2, 4)
    assert link_prediction(model, graph, np.array([], dtype=np.int64))["mrr"] is None


@pytest.mark.parametrize("method", METHODS)
def test_a_world_with_rules_is_learned(tmp_path: Path, method: str) -> None:
    vectors, has_graph, report = item_graph_vectors(make_dataset(tmp_path / "d"), everything(), config(method))
    untrained = item_graph_vectors(make_dataset(tmp_path / "e"), everything(), config(method, epochs=0))[2]
    assert vectors.shape == (120, 8)
    assert vectors.dtype == np.float32
    assert has_graph.tolist() == [True] * 100 + [False] * 20
    np.testing.assert_allclose(np.linalg.norm(vectors[:100], axis=1), 1, rtol=1e-5)
    cosines, genre = vectors[:100] @ vectors[:100].T, np.arange(100) % len(GENRES)
    same = np.equal.outer(genre, genre)
    assert cosines[same].mean() > cosines[~same].mean() + 0.1
    found = report["link_prediction"]
    assert report["method"] == method
    assert found["num_ranked"] == 2 * found["num_held_out"] > 0
    assert found["mrr"] > 2 * untrained["link_prediction"]["mrr"]


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides_every_bit_whatever_came_before(tmp_path: Path, method: str) -> None:
    dataset = make_dataset(tmp_path / "d")
    wanted = config(method, epochs=2)
    first, _, report = item_graph_vectors(dataset, everything(), wanted)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    second, _, again = item_graph_vectors(dataset, everything(), wanted)
    assert first.tobytes() == second.tobytes()
    assert report == again
    assert torch.equal(torch.get_rng_state(), state)  # and the caller's own random numbers are left alone
    other, _, _ = item_graph_vectors(dataset, everything(), config(method, epochs=2, seed=1))
    assert not np.allclose(first, other)


@pytest.mark.parametrize("method", METHODS)
def test_an_entity_in_no_triple_has_no_vector(tmp_path: Path, method: str) -> None:
    dataset = make_dataset(tmp_path / "d")
    triples = dataset.triples()
    assert triples is not None
    triples[~triples[["head", "tail"]].eq("e5").any(axis=1)].to_parquet(dataset.path / "triples.parquet")
    vectors, has_graph, _ = item_graph_vectors(dataset, everything(), config(method, epochs=1))
    assert not has_graph[5]
    assert not vectors[5].any()
    assert has_graph[:100].sum() == 99


@pytest.mark.parametrize("method", METHODS)
def test_wrong_links_are_refused_before_anything_is_trained(tmp_path: Path, method: str) -> None:
    shuffled = make_dataset(tmp_path / "d", shuffle_links=True)
    vectors, has_graph, report = item_graph_vectors(shuffled, everything(), config(method))
    assert vectors.shape == (120, 0)
    assert not has_graph.any()
    assert "links look random" in report["reason"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_train", [0, 1])
def test_hardly_any_train_items(tmp_path: Path, method: str, num_train: int) -> None:
    vectors, _, _ = item_graph_vectors(make_dataset(tmp_path / "d"), everything(num_train), config(method, epochs=1))
    assert np.isfinite(vectors).all()
    assert (vectors.shape[1] > 0) == (num_train > 0)


def test_nothing_held_out_is_nothing_judged() -> None:
    graph = IndexedTriples.of(pd.DataFrame([("a", "r", "b")], columns=["head", "relation", "tail"]))
    _, report = train_graph(graph, config("transe", epochs=1, held_out_share=0.0))
    assert report["mrr"] is None
    assert report["num_held_out"] == 0


def test_rotate_wants_an_even_dim() -> None:
    with pytest.raises(ValidationError, match="even graph_dim, got 7"):
        KnowledgeConfig(method="rotate", graph_dim=7)
