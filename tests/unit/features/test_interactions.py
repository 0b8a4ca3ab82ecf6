"""Rows and tables of a dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorefuse.config import FeatureConfig
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, USER_ID
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.features.interactions import InteractionRows, encode_tables
from tests.helpers.feature_world import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_rows_point_at_their_user_and_item(world: World) -> None:
    rows, events = InteractionRows.of(world.dataset, load_split(world.split_path)[0]), world.dataset.interactions()
    assert world.dataset.users()[USER_ID].iloc[rows.user_row].tolist() == events[USER_ID].tolist()
    assert world.dataset.items()[ITEM_ID].iloc[rows.item_row].tolist() == events[ITEM_ID].tolist()
    assert rows.timestamp_us[0] == events[EVENT_TIMESTAMP].iloc[0].timestamp() * 1_000_000


def test_a_split_of_other_rows_is_refused(world: World) -> None:
    frame = load_split(world.split_path)[0]
    for other in (frame.iloc[:-1], frame.iloc[::-1]):
        with pytest.raises(ArtifactError, match="does not belong"):
            InteractionRows.of(world.dataset, other)


def test_an_unknown_item_is_refused(world: World) -> None:
    """It would take the place of the last item, whose position is -1 too."""

    class Shorter(Dataset):
        def items(self) -> pd.DataFrame:
            return super().items().iloc[1:]

    dataset = Shorter(world.dataset.path, world.dataset.manifest)
    with pytest.raises(ArtifactError, match="not in its table"):
        InteractionRows.of(dataset, load_split(world.split_path)[0])


def test_vocabularies_know_train_rows_alone(world: World) -> None:
    rows = InteractionRows.of(world.dataset, load_split(world.split_path)[0])
    tables = encode_tables(world.dataset, rows, FeatureConfig())
    is_train_item = np.isin(np.arange(len(tables.item_fields)), rows.item_row[rows.is_train])
    np.testing.assert_array_equal(tables.item_fields[:, 0] > 0, is_train_item)
    assert (tables.item_fields[:, 1] > 0).all()  # a cold item's decade is known
    genres = tables.vocabularies["genres"]
    for row, names in enumerate(world.dataset.items()["genres"]):
        assert [name for name in genres.decode(tables.item_multi[row]) if name] == list(names)
    assert [field.name for field in tables.user_specs] == ["user_id", "gender"]
    assert tables.item_fields.max(0).tolist() == [field.size - 1 for field in tables.item_specs]


def test_train_of_one_row_is_enough(world: World, tmp_path: Path) -> None:
    rows = InteractionRows.of(world.dataset, load_split(world.split_path)[0])
    alone = dataclasses.replace(rows, split_code=np.where(np.arange(len(rows.label)) == 0, 0, 2).astype(np.uint8))
    tables = encode_tables(world.dataset, alone, FeatureConfig())
    assert tables.vocabularies["item_id"].size == tables.vocabularies["user_id"].size == 2
