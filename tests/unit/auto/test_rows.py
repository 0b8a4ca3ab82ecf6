"""The race's rows are the feature store's, without test rows; a sample of users is part of a larger one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lorefuse.auto.rows import thinned, users_in_order
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.feature_store.retrieve import retrieve_training_set
from lorefuse.feature_store.store import apply_and_materialize
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.feature_world import World
from tests.helpers.race_rows import rows_of

STATES = ("user_numeric", "user_interest")
ROWS = ("user_row", "item_row", "label", "value", "split_code", "cold", "item_numeric", "timestamp_us")
TABLES = ("user_fields", "item_fields", "item_multi", "item_numeric_now")


def test_they_are_the_stores_to_the_bit(world: World, tmp_path: Path) -> None:
    for name in ("store", "rows"):
        (tmp_path / name).mkdir()
    apply_and_materialize(world.feature_data_path, tmp_path / "store")
    folders = (world.split_path, world.vectors, world.feature_data_path, tmp_path / "store", tmp_path / "rows")
    retrieve_training_set(world.dataset, *folders)
    stored, made = TrainingSet.load(tmp_path / "rows"), rows_of(world)
    kept = np.isin(stored.split_code, [SPLIT_CODES[Split.TRAIN], SPLIT_CODES[Split.VALIDATION]])
    assert made.spec == stored.spec
    for name in ROWS:
        np.testing.assert_array_equal(getattr(made, name), getattr(stored, name)[kept], err_msg=name)
    for name in TABLES:
        np.testing.assert_array_equal(getattr(made, name), getattr(stored, name), err_msg=name)
    assert list(made.knowledge) == list(stored.knowledge) == ["text", "graph"]
    for name, table in made.knowledge.items():
        np.testing.assert_array_equal(table, stored.knowledge[name], err_msg=name)
    for name in STATES:
        mine = getattr(made, name)[made.state_row]
        np.testing.assert_array_equal(mine, getattr(stored, name)[stored.state_row][kept], err_msg=name)


def test_no_test_row_is_in_it(world: World) -> None:
    made = rows_of(world)
    made.check()
    assert not len(made.rows_of(Split.TEST))
    assert len(made.rows_of(Split.TRAIN))
    assert len(made.rows_of(Split.VALIDATION))


def test_more_data_than_there_is_room_for_is_sampled_by_users(world: World) -> None:
    whole, some = rows_of(world), rows_of(world, max_rows=300)
    some.check()
    assert 0 < some.num_rows <= 300
    users = np.unique(some.user_row)
    assert some.num_rows == np.isin(whole.user_row, users).sum(), "all rows of a user, or none"
    place = users_in_order(len(whole.user_fields), 0)
    assert place[users].max() < place[np.setdiff1d(whole.user_row, users)].min()


def test_a_smaller_share_is_part_of_a_larger_one(world: World) -> None:
    whole = rows_of(world)
    users = [set(one.user_row[one.rows_of(Split.TRAIN)]) for one in (thinned(whole, s, 0) for s in (0.25, 0.5, 1.0))]
    assert users[0] < users[1] < users[2]
    assert users[2] == set(whole.user_row[whole.rows_of(Split.TRAIN)])
