"""The two towers as arrays say what the trained towers say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lorefuse.core.errors import ArtifactError
from lorefuse.retrieval import two_tower
from lorefuse.retrieval.data import RetrievalData
from lorefuse.retrieval.two_tower import TwoTower
from lorefuse.retrieval.vectors import TowerArrays, recency, unit
from lorefuse.training_set.spec import CategoricalField
from tests.helpers.likes import NUM_ITEMS, NUM_USERS, topic_data
from tests.unit.retrieval.test_two_tower import SMALL

QUICK = SMALL.model_copy(update={"max_epochs": 2})


@pytest.fixture(scope="module")
def data() -> RetrievalData:
    return topic_data()


@pytest.fixture(scope="module")
def arrays(data: RetrievalData) -> TowerArrays:
    return TowerArrays.of(TwoTower(QUICK).fit(data.train, data.side), training_set(data))


def training_set(data: RetrievalData) -> SimpleNamespace:
    """What the arrays read of a training set; its vocabulary of users counts backwards."""
    side = data.side
    assert side.user_fields is not None
    users = side.user_fields.copy()
    users[:, 0] = NUM_USERS - np.arange(NUM_USERS)
    fields = (CategoricalField(name="user_id", size=NUM_USERS + 1), CategoricalField(name="group", size=3))
    return SimpleNamespace(
        user_fields=users,
        item_fields=side.item_fields,
        knowledge=side.knowledge,
        spec=SimpleNamespace(user_fields=fields, knowledge_dim=lambda name: side.knowledge[name].shape[1]),
    )


def test_user_vectors_are_the_towers(data: RetrievalData, arrays: TowerArrays) -> None:
    recommender = TwoTower(QUICK).fit(data.train, data.side)
    expected = recommender.user_vectors(np.arange(NUM_USERS), data.train)
    past = np.full((NUM_USERS, 6), -1)
    for user in range(NUM_USERS):
        items = data.train[[user]].indices
        past[user, : len(items)] = items
    got = arrays.users(training_set(data).user_fields, past, np.ones_like(past, dtype=np.float32))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    nobody = arrays.users(np.zeros((1, 2), np.int64), np.full((1, 6), -1), np.ones((1, 6), np.float32))
    np.testing.assert_allclose(np.linalg.norm(nobody), 1, atol=1e-5)


def test_an_item_without_a_like_is_rebuilt_from_its_words(data: RetrievalData, arrays: TowerArrays) -> None:
    """The last eight items have no train row: growing them again gives the vectors that the towers gave."""
    side = training_set(data)
    tables = {"item_fields": side.item_fields} | {f"item_{name}": table for name, table in side.knowledge.items()}
    grown = arrays.grown(tables, NUM_ITEMS - 8).item_vectors[NUM_ITEMS:]
    np.testing.assert_allclose(grown, arrays.item_vectors[-8:], atol=1e-5)


def test_they_come_back_from_disk(arrays: TowerArrays, tmp_path: Path) -> None:
    arrays.save(tmp_path)
    back = TowerArrays.load(tmp_path)
    parts = [{**vars(one), **one.weights} for one in (arrays, back)]
    assert parts[0].keys() == parts[1].keys()
    assert all(np.array_equal(value, parts[1][name]) for name, value in parts[0].items() if name != "weights")
    (tmp_path / "two_tower.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match="no complete towers"):
        TowerArrays.load(tmp_path)


def test_a_large_catalogue_learns_the_same_as_a_small_one(data: RetrievalData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedding only what a batch holds is the same step: without dropped ids not even the draws differ."""
    config = QUICK.model_copy(update={"id_dropout": 0.0})
    whole = TwoTower(config).fit(data.train, data.side)
    monkeypatch.setattr(two_tower, "ALL_ITEMS_UP_TO", 0)
    parts = TwoTower(config).fit(data.train, data.side)
    np.testing.assert_allclose(whole.item_vectors(), parts.item_vectors(), atol=1e-4)


def test_helpers_by_hand() -> None:
    assert recency(3, 1.0).tolist() == [1, 0.5, 0.25]
    assert recency(2, None).tolist() == [1, 1]
    np.testing.assert_allclose(unit(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]], atol=1e-7)
