"""The ASOF offline store against a naive loop over rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import feast
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.types import Float32, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorefuse.core.errors import DataError, UsageError
from lorefuse.feature_store.asof_join import Snapshots, take
from lorefuse.feature_store.asof_store import asof_join

USER = feast.Entity(name="user", join_keys=["user_id"], value_type=feast.ValueType.STRING)


def times(us: Any) -> pd.Series:
    return pd.Series(pd.to_datetime(np.asarray(us, dtype=np.int64), unit="us", utc=True)).astype("datetime64[us, UTC]")


def make_view(path: Path, *, ttl_us: int = 0, created: bool = False, name: str = "view", **options: Any) -> Any:
    source = feast.FileSource(
        name=f"{name}_source",
        path=str(path),
        timestamp_field="ts",
        created_timestamp_column="created" if created else "",
        **options,
    )
    return feast.FeatureView(
        name=name,
        entities=[USER],
        schema=[feast.Field(name="x", dtype=Float32), feast.Field(name="user_id", dtype=String)],
        source=source,
        ttl=timedelta(microseconds=ttl_us),
    )


def write(path: Path, rows: list[tuple[str, int, float, int]]) -> pd.DataFrame:
    keys, stamps, values, created = zip(*rows, strict=True) if rows else ((), (), (), ())
    frame = pd.DataFrame({"user_id": pd.Series(keys, dtype=object), "x": np.array(values, np.float32)})
    frame["ts"], frame["created"] = times(stamps), times(created)
    moment = pa.timestamp("us", "UTC")
    schema = pa.schema([("user_id", pa.string()), ("x", pa.float32()), ("ts", moment), ("created", moment)])
    pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), path)
    return frame


def naive(features: pd.DataFrame, entities: pd.DataFrame, ttl_us: int) -> list[float | None]:
    """For each row: latest snapshot at or before it, the one created last among equals, none when its TTL is over."""
    result: list[float | None] = []
    for user, moment in zip(entities["user_id"], entities["event_timestamp"], strict=True):
        known = features[(features["user_id"] == user) & (features["ts"] <= moment)]
        latest = known.sort_values(["ts", "created"], kind="stable").tail(1)
        over = ttl_us > 0 and len(latest) > 0 and moment - latest["ts"].iloc[0] > timedelta(microseconds=ttl_us)
        result.append(None if latest.empty or over else float(latest["x"].iloc[0]))
    return result


KEY, MOMENT = st.sampled_from(["a", "b", "c'\""]), st.integers(0, 8)


@given(
    snapshots=st.lists(st.tuples(KEY, MOMENT, MOMENT), max_size=20, unique=True),
    labels=st.lists(st.tuples(KEY, MOMENT), max_size=20),
    ttl_us=st.sampled_from([0, 1, 3]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_join_is_the_naive_one(
    tmp_path: Path, snapshots: list[tuple[str, int, int]], labels: list[tuple[str, int]], ttl_us: int
) -> None:
    """Duplicates of (key, time) on both sides, rows older than any feature and equal times are all drawn often."""
    path = tmp_path / "source.parquet"
    features = write(path, [(key, at, float(n), made) for n, (key, at, made) in enumerate(snapshots)])
    entities = pd.DataFrame(
        {
            "user_id": pd.Series([key for key, _ in labels], dtype=object),
            "event_timestamp": times([at for _, at in labels]),
        }
    )
    schema = pa.schema([("user_id", pa.string()), ("event_timestamp", pa.timestamp("us", "UTC"))])
    table = pa.Table.from_pandas(entities, schema=schema, preserve_index=False)
    view = make_view(path, ttl_us=ttl_us, created=True)
    joined = asof_join(table, view, ["x"], "event_timestamp", str(path))
    assert joined.column("x").to_pylist() == naive(features, entities, ttl_us)


PART = st.none() | st.sampled_from(["a", "b"])
TWO_KEYS = st.tuples(PART, st.none() | st.integers(0, 2), st.none() | MOMENT)


@given(snapshots=st.lists(TWO_KEYS, max_size=20), rows=st.lists(TWO_KEYS, max_size=20), coded=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_keys_of_two_columns_and_nulls(
    tmp_path: Path, snapshots: list[tuple[Any, ...]], rows: list[tuple[Any, ...]], coded: bool
) -> None:
    """A key or a moment with a null is nobody's; texts may come as codes, and whole numbers of another width."""

    def table(of: list[tuple[Any, ...]], number: pa.DataType) -> pa.Table:
        columns = [[row[place] for row in of] for place in range(3)]
        text, whole, moment = pa.array(columns[0], pa.string()), pa.array(columns[1], number), columns[2]
        moments = pa.array(moment, pa.timestamp("us", "UTC"))
        return pa.table({"a": text.dictionary_encode() if coded else text, "b": whole, "at": moments})

    path, asked = str(tmp_path / "two.parquet"), table(rows, pa.int64())
    pq.write_table(table(snapshots, pa.int32()), path)
    found = Snapshots(path, ["a", "b"], "at").latest([asked["a"], asked["b"]], asked["at"]).to_pylist()
    for (*key, moment), row in zip(rows, found, strict=True):
        whole = moment is not None and None not in key
        known = [at for *one, at in snapshots if whole and one == key and at is not None and at <= moment]
        assert (row is None) == (not known)
        assert row is None or snapshots[row] == (*key, max(known))


def test_lists_are_taken_as_they_are(tmp_path: Path) -> None:
    path = str(tmp_path / "lists.parquet")
    lists = pa.array([[1.0], None, [2.0, None], []], pa.list_(pa.float32()))
    moments = pa.array([0] * 4, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"key": pa.array([0, 1, 2, 3]), "at": moments, "x": lists}), path)
    taken = take(path, "x", pa.array([2, None, 1, 0, 3]))
    assert taken.type == lists.type
    assert taken.to_pylist() == [[2.0, None], None, None, [1.0], []]


def test_keys_of_another_kind_are_refused(store: feast.FeatureStore) -> None:
    with pytest.raises(DataError, match="two kinds"):
        store.get_historical_features(entity_df=ENTITIES.assign(user_id=range(6)), features=["one:x"])


def test_order_is_kept_over_many_rows(tmp_path: Path) -> None:
    """More rows than one row group."""
    rng = np.random.default_rng(0)
    path, num_rows = tmp_path / "source.parquet", 300_000
    write(path, [(f"u{n}", 0, float(n), 0) for n in range(1000)])
    users = rng.integers(0, 1000, num_rows)
    entities = pd.DataFrame(
        {"user_id": [f"u{n}" for n in users], "event_timestamp": times(rng.integers(0, 9, num_rows))}
    )
    joined = asof_join(pa.Table.from_pandas(entities), make_view(path), ["x"], "event_timestamp", str(path))
    np.testing.assert_array_equal(joined.column("x").to_numpy(), users.astype(np.float32))


@pytest.fixture
def store(tmp_path: Path) -> feast.FeatureStore:
    """A store with two views of the same feature, three snapshots each."""
    config = feast.RepoConfig(
        project="asof",
        provider="local",
        registry=str(tmp_path / "registry.db"),
        online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
        offline_store={"type": "lorefuse.feature_store.asof_store.AsofOfflineStore"},
        entity_key_serialization_version=3,
        repo_path=str(tmp_path),
    )
    store = feast.FeatureStore(config=config)
    views = []
    for n, name in enumerate(("one", "two")):
        path = tmp_path / f"{name}.parquet"
        write(path, [("a", 10, 1.0 + 10 * n, 0), ("a", 20, 2.0 + 10 * n, 0), ("b", 10, 3.0 + 10 * n, 0)])
        views.append(make_view(path, name=name))
    store.apply([USER, *views, feast.FeatureService(name="service", features=[views[0]])])
    return store


ENTITIES = pd.DataFrame(
    {
        "row_id": [5, 4, 3, 2, 1, 0],
        "user_id": ["b", "a", "a", "a", "nobody", "a"],
        "event_timestamp": times([10, 20, 20, 19, 30, 9]),  # a duplicate, an equal time, one before any feature
    }
)
EXPECTED = [3.0, 2.0, 2.0, 1.0, None, None]


def test_feast_keeps_every_row_through_a_service(store: feast.FeatureStore) -> None:
    """The trap of Feast's file store: it loses the duplicate, the row before any feature and the unknown user."""
    before = ENTITIES.copy()
    job = store.get_historical_features(entity_df=ENTITIES, features=store.get_feature_service("service"))
    joined = job.to_arrow()
    assert joined.column_names == ["row_id", "user_id", "event_timestamp", "x"]
    assert joined.column("row_id").to_pylist() == ENTITIES["row_id"].tolist()
    assert joined.column("x").to_pylist() == EXPECTED
    assert joined.schema.field("x").type == pa.float32()
    pd.testing.assert_frame_equal(ENTITIES, before)


def test_full_names_tell_views_apart(store: feast.FeatureStore) -> None:
    job = store.get_historical_features(entity_df=ENTITIES, features=["two:x", "one:x"], full_feature_names=True)
    frame = job.to_df()
    np.testing.assert_array_equal(frame["one__x"], np.array(EXPECTED, dtype=np.float64))
    np.testing.assert_array_equal(frame["two__x"] - frame["one__x"], [10, 10, 10, 10, np.nan, np.nan])


def test_a_view_under_another_key_and_name(store: feast.FeatureStore) -> None:
    view = store.get_feature_view("one").with_name("friend").with_join_key_map({"user_id": "friend_id"})
    store.apply([feast.FeatureService(name="friends", features=[view])])
    entities = ENTITIES.rename(columns={"user_id": "friend_id"})
    job = store.get_historical_features(entity_df=entities, features=store.get_feature_service("friends"))
    assert job.to_arrow().column("x").to_pylist() == EXPECTED


def test_local_times_and_no_rows(store: feast.FeatureStore) -> None:
    """Times with another zone are converted, times without one are UTC; no rows give no rows."""
    zoned = ENTITIES.assign(event_timestamp=ENTITIES["event_timestamp"].dt.tz_convert("Asia/Tokyo"))
    bare = ENTITIES.assign(event_timestamp=ENTITIES["event_timestamp"].dt.tz_localize(None))
    for entities in (zoned, bare):
        assert store.get_historical_features(entities, ["one:x"]).to_arrow().column("x").to_pylist() == EXPECTED
    assert store.get_historical_features(ENTITIES.iloc[:0], ["one:x"]).to_arrow().num_rows == 0


@pytest.mark.parametrize("entity_df", ["SELECT 1", None])
def test_what_is_not_a_frame_is_refused(store: feast.FeatureStore, entity_df: str | None) -> None:
    with pytest.raises(UsageError, match="DataFrame"):
        store.get_historical_features(entity_df=entity_df, features=["one:x"])


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_away")
def test_source_times_without_a_zone_are_utc_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "source.parquet"
    frame = pd.DataFrame({"user_id": ["a"], "x": np.float32([1]), "ts": times([0]).dt.tz_localize(None)})
    frame.to_parquet(path, index=False)
    entities = pa.Table.from_pandas(pd.DataFrame({"user_id": ["a", "a"], "event_timestamp": times([-1, 0])}))
    joined = asof_join(entities, make_view(path), ["x"], "event_timestamp", str(path))
    assert joined.column("x").to_pylist() == [None, 1.0]
