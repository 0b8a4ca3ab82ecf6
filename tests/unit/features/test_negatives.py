"""Sampled negatives in the training set: they see what their positive sees, and nothing ever sees them."""

from __future__ import annotations

import numpy as np
import pytest

from lorefuse.config import NegativesConfig
from lorefuse.core.schema import ITEM_ID, ROW_ID, SPLIT_CODES, Split
from lorefuse.data.negatives import read_negatives
from lorefuse.data.split import load_split
from lorefuse.feature_store.retrieve import retrieve_training_set
from lorefuse.feature_store.store import apply_and_materialize
from lorefuse.features.arms import with_knowledge
from lorefuse.features.history import every_row_of, with_history
from lorefuse.features.prior import ItemPrior
from lorefuse.features.rows import item_numeric_rows
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.feature_world import CONFIG, World, make_world

NEGATIVES = NegativesConfig(num_train=2, num_eval=3, seed=1)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    paths = [tmp_path_factory.mktemp("negatives") for _ in range(2)]
    return make_world(paths[0]), make_world(paths[1], negatives=NEGATIVES)


@pytest.fixture(scope="module")
def sets(worlds: tuple[World, World], tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSet, TrainingSet]:
    made = []
    for world in worlds:
        path = tmp_path_factory.mktemp("rows")
        (path / "store").mkdir()
        (path / "rows").mkdir()
        apply_and_materialize(world.feature_data_path, path / "store")
        retrieve_training_set(
            world.dataset, world.split_path, world.vectors, world.feature_data_path, path / "store", path / "rows"
        )
        made.append(TrainingSet.load(path / "rows"))
    return made[0], made[1]


def test_interactions_are_as_if_there_were_no_negatives(sets: tuple[TrainingSet, TrainingSet]) -> None:
    plain, sampled = sets
    assert plain.num_rows == sampled.num_states < sampled.num_rows
    for name in ("user_numeric", "user_interest", "item_numeric_now", "item_fields", "user_fields"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(sampled, name))
    for name in ("item_numeric", "label", "item_row", "timestamp_us", "split_code", "cold"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(sampled, name)[: plain.num_rows])


def test_a_negative_has_its_positives_user_moment_and_part(
    worlds: tuple[World, World], sets: tuple[TrainingSet, TrainingSet]
) -> None:
    rows, world = sets[1], worlds[1]
    negatives, start = read_negatives(world.split_path), rows.num_states
    positive = rows.state_row[start:]
    assert positive.tolist() == negatives[ROW_ID].tolist()
    items = world.dataset.items()[ITEM_ID].to_numpy()
    assert items[rows.item_row[start:]].tolist() == negatives[ITEM_ID].tolist()
    for name in ("user_row", "timestamp_us", "split_code"):
        np.testing.assert_array_equal(getattr(rows, name)[start:], getattr(rows, name)[positive])
    assert not rows.label[start:].any()
    assert (rows.label[positive] == 1).all()
    cold_items = set(rows.item_row[:start][rows.cold[:start]])
    evaluated = rows.split_code[start:] != SPLIT_CODES[Split.TRAIN]
    assert [item in cold_items for item in rows.item_row[start:][evaluated]] == rows.cold[start:][evaluated].tolist()
    inputs = rows.inputs(np.array([start, positive[0]]))
    for name, array in inputs.items():
        if name.startswith("user"):
            np.testing.assert_array_equal(array[0], array[1])


def test_item_features_of_negatives_are_those_of_memory_and_of_a_loop(
    worlds: tuple[World, World], sets: tuple[TrainingSet, TrainingSet]
) -> None:
    rows = sets[1]
    prior = ItemPrior.load(worlds[1].feature_data_path)
    np.testing.assert_array_equal(rows.item_numeric, item_numeric_rows(every_row_of(rows), prior))
    train = (rows.split_code == SPLIT_CODES[Split.TRAIN]) & (np.arange(rows.num_rows) < rows.num_states)
    for row in range(rows.num_states, rows.num_rows, 37):
        known = train & (rows.item_row == rows.item_row[row]) & (rows.timestamp_us < rows.timestamp_us[row])
        assert rows.item_numeric[row, 0] == pytest.approx(np.log1p(known.sum()), rel=1e-6)


def test_arms_and_histories_leave_negatives_out(sets: tuple[TrainingSet, TrainingSet]) -> None:
    plain, sampled = (with_history(with_knowledge(rows, "shuffled", CONFIG.features, 3), 4) for rows in sets)
    sampled.check()
    for name in ("user_interest", "user_history", "item_numeric_now"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(sampled, name))
    np.testing.assert_array_equal(plain.knowledge["text"], sampled.knowledge["text"])
    assert sampled.inputs(np.array([sampled.num_rows - 1]))  # the last negative has all its inputs


def test_facts_count_them(worlds: tuple[World, World]) -> None:
    assert load_split(worlds[1].split_path)[1]["num_negatives"] == len(read_negatives(worlds[1].split_path))
    assert "num_negatives" not in load_split(worlds[0].split_path)[1]
