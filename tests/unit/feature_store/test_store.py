"""From rows to Feast and back: offline, online and in memory must hold the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lorefuse.core.errors import ArtifactError, DataError
from lorefuse.core.schema import COLD, EVENT_TIMESTAMP, ITEM_ID, LABEL, SPLIT, USER_ID, VALUE, Split, View
from lorefuse.data.split import load_split
from lorefuse.feature_store.retrieve import retrieve_training_set
from lorefuse.feature_store.store import apply_and_materialize, online_features, open_store, point_in_time
from lorefuse.features.aggregates import ITEM_NUMERIC, ITEM_SHRINKAGE, USER_NUMERIC, USER_SHRINKAGE
from lorefuse.features.build import history_of
from lorefuse.features.interactions import InteractionRows
from lorefuse.features.prior import ItemPrior
from lorefuse.features.rows import item_numeric_now, item_numeric_rows, user_interest_rows, user_numeric_rows
from lorefuse.features.vocabulary import load_user_values
from lorefuse.training_set.arrays import TrainingSet
from tests.helpers.feature_world import CONFIG, NUM_ITEMS, NUM_ROWS, NUM_USERS, World, make_world

SHRINKAGE = CONFIG.features.interest_shrinkage


@pytest.fixture(scope="module", params=["global_time", "per_user_time"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), strategy=request.param)


@pytest.fixture(scope="module")
def store_path(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    apply_and_materialize(world.feature_data_path, path)
    return path


@pytest.fixture(scope="module")
def training_set(world: World, store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    path = tmp_path_factory.mktemp("training_set")
    facts = retrieve_training_set(
        world.dataset, world.split_path, world.vectors, world.feature_data_path, store_path, path
    )
    assert facts == {"num_rows": NUM_ROWS, "num_users": NUM_USERS, "num_items": NUM_ITEMS}
    loaded, values = TrainingSet.load(path), load_user_values(path)
    assert {name: len(of_field) + 1 for name, of_field in values.items()} == {
        field.name: field.size for field in loaded.spec.user_fields[1:]
    }
    return loaded


def test_the_world_is_hard(world: World) -> None:
    """The tests below would pass on data without equal times, cold items, or users that nothing is known of."""
    events, frame = world.dataset.interactions(), load_split(world.split_path)[0]
    train = (frame[SPLIT] == Split.TRAIN).to_numpy()
    assert events.duplicated([USER_ID, EVENT_TIMESTAMP]).sum() > 50
    assert events.duplicated([USER_ID, ITEM_ID, EVENT_TIMESTAMP]).any()
    assert frame[COLD].any()
    assert set(world.dataset.items()[ITEM_ID]) - set(events[ITEM_ID][train])


def test_the_join_gives_the_bits_of_memory(world: World, training_set: TrainingSet) -> None:
    rows = InteractionRows.of(world.dataset, load_split(world.split_path)[0])
    history = history_of(rows, "binary")
    prior = ItemPrior.load(world.feature_data_path)
    interest = user_interest_rows(history, world.vectors.knowledge, SHRINKAGE)
    np.testing.assert_array_equal(training_set.user_numeric, user_numeric_rows(history))
    np.testing.assert_array_equal(training_set.item_numeric, item_numeric_rows(history, prior))
    np.testing.assert_array_equal(training_set.user_interest, interest)
    for array in (training_set.user_numeric, training_set.item_numeric, training_set.user_interest):
        assert array.dtype == np.float32


def test_every_row_knows_only_train_rows_strictly_before(world: World, training_set: TrainingSet) -> None:
    """Counts and means by a loop over rows, from the raw tables alone."""
    events = world.dataset.interactions()
    train = events[(load_split(world.split_path)[0][SPLIT] == Split.TRAIN).to_numpy()]
    overall = train[LABEL].mean()
    for row in range(0, NUM_ROWS, 7):
        event = events.iloc[row]
        past = train[train[EVENT_TIMESTAMP] < event[EVENT_TIMESTAMP]]
        mine, its = past[past[USER_ID] == event[USER_ID]], past[past[ITEM_ID] == event[ITEM_ID]]
        expected = [
            np.log1p(len(mine)),
            (mine[LABEL].sum() + USER_SHRINKAGE * overall) / (len(mine) + USER_SHRINKAGE),
        ]
        np.testing.assert_allclose(training_set.user_numeric[row], expected, rtol=1e-6)
        mean = (its[LABEL].sum() + ITEM_SHRINKAGE * overall) / (len(its) + ITEM_SHRINKAGE)
        np.testing.assert_allclose(training_set.item_numeric[row, :2], [np.log1p(len(its)), mean], rtol=1e-6)


def _bits(column: pd.Series) -> np.ndarray:
    return np.stack(column.map(np.atleast_1d).to_list()).astype(np.float32).view(np.int32)


VIEWS = {
    View.USER_STATS: USER_NUMERIC,
    View.USER_INTEREST: ("liked_text", "centred_text", "liked_graph", "centred_graph"),
    View.ITEM_STATS: ITEM_NUMERIC,
    "item_text": ("text_vector",),
    "item_graph": ("graph_vector",),
}


@pytest.mark.parametrize("view", VIEWS)
def test_online_is_offline_at_the_cutoff(world: World, store_path: Path, view: str) -> None:
    """Of every user and item, known or not, to the last bit."""
    key = USER_ID if view.startswith("user") else ITEM_ID
    table = world.dataset.users() if key == USER_ID else world.dataset.items()
    names, ids = VIEWS[view], table[key].tolist()
    online = online_features(store_path, view, names, ids)
    # One second on, as the materialization: the last snapshot stands a microsecond after the last train row.
    moment = pd.Timestamp(load_split(world.split_path)[1]["data_cutoff"]) + pd.Timedelta(seconds=1)
    entities = pd.DataFrame({key: ids, EVENT_TIMESTAMP: moment})
    job = open_store(store_path).get_historical_features(entities, [f"{view}:{name}" for name in names])
    offline = job.to_arrow().to_pandas()
    assert online[key].tolist() == offline[key].tolist() == ids
    for name in names:
        np.testing.assert_array_equal(_bits(online[name]), _bits(offline[name]), err_msg=name)


def test_online_items_are_what_the_training_set_calls_now(
    world: World, store_path: Path, training_set: TrainingSet
) -> None:
    ids = world.dataset.items()[ITEM_ID].tolist()
    online = online_features(store_path, View.ITEM_STATS, ITEM_NUMERIC, ids)
    np.testing.assert_array_equal(online[list(ITEM_NUMERIC)].to_numpy(np.float32), training_set.item_numeric_now)
    rows = InteractionRows.of(world.dataset, load_split(world.split_path)[0])
    prior = ItemPrior.load(world.feature_data_path)
    np.testing.assert_array_equal(item_numeric_now(history_of(rows, "binary"), prior), training_set.item_numeric_now)


def test_online_history_and_attributes(world: World, store_path: Path) -> None:
    events = world.dataset.interactions()
    train = events[load_split(world.split_path)[0][SPLIT].isin([Split.TRAIN, Split.VALIDATION]).to_numpy()]
    users = world.dataset.users()[USER_ID].tolist()
    online = online_features(store_path, View.USER_HISTORY, ["seen", "recent_liked"], users)
    for user, seen, liked in zip(users, online["seen"], online["recent_liked"], strict=True):
        mine = train[train[USER_ID] == user].sort_values([EVENT_TIMESTAMP, ITEM_ID])
        assert set(seen or []) == set(mine[ITEM_ID])
        assert list(liked or []) == mine[ITEM_ID][mine[LABEL] == 1].tolist()[-CONFIG.features.history_length :]
    items = world.dataset.items()
    online = online_features(store_path, View.ITEM_ATTRIBUTES, ["title", "decade", "genres"], items[ITEM_ID].tolist())
    assert online["title"].tolist() == items["title"].tolist()
    assert [list(genres or []) for genres in online["genres"]] == [list(genres) for genres in items["genres"]]


def test_somebody_unknown_has_nothing_online(store_path: Path) -> None:
    online = online_features(store_path, View.USER_STATS, USER_NUMERIC, ["u0", "nobody"])
    assert online[list(USER_NUMERIC)].isna().all(axis=1).tolist() == [False, True]


def test_labels_outside_train_reach_no_source(world: World, tmp_path: Path) -> None:
    """Flip every validation and test label: the feature data's files stay the same, byte for byte."""
    from lorefuse.core.atomic import sha256_file
    from lorefuse.data.dataset import Dataset
    from lorefuse.features.build import build_feature_data

    class Flipped(Dataset):
        def interactions(self) -> pd.DataFrame:
            events = super().interactions()
            outside = (load_split(world.split_path)[0][SPLIT] != Split.TRAIN).to_numpy()
            events.loc[outside, LABEL] = 1 - events.loc[outside, LABEL]
            events.loc[outside, VALUE] = 6 - events.loc[outside, VALUE]
            return events

    flipped = Flipped(world.dataset.path, world.dataset.manifest)
    build_feature_data(flipped, world.split_path, world.vectors, CONFIG, tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) == len([path for path in world.feature_data_path.rglob("*") if path.is_file()]) > 8
    for name in made:
        assert sha256_file(tmp_path / name) == sha256_file(world.feature_data_path / name), name


def test_snapshots_stand_one_microsecond_after_their_moment(world: World) -> None:
    """One per (user, moment) of train rows, and one at the epoch for everybody."""
    stats = pq.read_table(world.feature_data_path / "sources" / "user_stats.parquet").to_pandas()
    assert not stats.duplicated([USER_ID, EVENT_TIMESTAMP]).any()
    events = world.dataset.interactions()
    train = events[(load_split(world.split_path)[0][SPLIT] == Split.TRAIN).to_numpy()]
    moments = set(zip(train[USER_ID], train[EVENT_TIMESTAMP] + pd.Timedelta(microseconds=1), strict=True))
    epoch = {(user, pd.Timestamp(0, tz="UTC")) for user in world.dataset.users()[USER_ID]}
    assert set(zip(stats[USER_ID], stats[EVENT_TIMESTAMP], strict=True)) == moments | epoch


def test_a_row_without_features_is_an_error(world: World, store_path: Path) -> None:
    events = world.dataset.interactions()
    events.loc[17, USER_ID] = "nobody"
    with pytest.raises(DataError, match="row_id 17"):
        point_in_time(store_path, events)


def test_an_offline_store_that_loses_rows_is_an_error(
    world: World, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feast's own file store, given the same definitions and rows, drops the repeated ones without a word."""
    import feast

    from lorefuse.feature_store import online
    from lorefuse.feature_store import store as module

    def open_with_dask(path: Path) -> feast.FeatureStore:
        config = feast.RepoConfig(
            project=online.LOCAL_PROJECT,
            provider="local",
            registry=str(path / online.REGISTRY_FILE),
            online_store={"type": "sqlite", "path": str(path / online.ONLINE_FILE)},
            offline_store={"type": "dask"},
            entity_key_serialization_version=3,
            repo_path=str(path),
        )
        return feast.FeatureStore(config=config)

    monkeypatch.setattr(module, "open_store", open_with_dask)
    with pytest.raises(DataError, match="each row back once") as error:
        point_in_time(store_path, world.dataset.interactions())
    assert f"{NUM_ROWS} rows" in str(error.value)


def test_no_vectors_no_interest(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", text_dim=0, graph_dim=0)
    store_path, out_path = tmp_path / "store", tmp_path / "training_set"
    store_path.mkdir()
    out_path.mkdir()
    views = apply_and_materialize(world.feature_data_path, store_path)["views"]
    assert not {View.USER_INTEREST, "item_text", "item_graph"} & set(views)
    retrieve_training_set(world.dataset, world.split_path, world.vectors, world.feature_data_path, store_path, out_path)
    assert TrainingSet.load(out_path).user_interest.shape == (NUM_ROWS, 0)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="online store"):
        online_features(tmp_path, View.USER_STATS, USER_NUMERIC, ["u0"])
    with pytest.raises(ArtifactError, match=r"views\.json"):
        apply_and_materialize(tmp_path, tmp_path)
