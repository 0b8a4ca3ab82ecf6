"""The hand-written reader of Feast's online store against Feast's own serialisation."""

from __future__ import annotations

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, StringList, Value
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.module_file import served_module

texts = st.text(st.characters(exclude_categories=["Cs"]))


online_store = served_module("features", "online_store")
stored_values = served_module("features", "stored_values")


@given(texts)
def test_keys_are_feasts(text: str) -> None:
    expected = serialize_entity_key(EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=text)]))
    assert stored_values.entity_key("user_id", text) == expected


@given(texts)
def test_texts_come_back(text: str) -> None:
    assert stored_values.parse_value(Value(string_val=text).SerializeToString()) == text


@given(st.lists(texts))
def test_lists_of_texts_come_back(values: list[str]) -> None:
    assert stored_values.parse_value(Value(string_list_val=StringList(val=values)).SerializeToString()) == values


@pytest.mark.parametrize("num_texts", [0, 1, 20, 200, 20_000, 300_000])  # sizes of one to four bytes
def test_long_lists_come_back(num_texts: int) -> None:
    values = [f"item {number}" for number in range(num_texts)]
    assert stored_values.parse_value(Value(string_list_val=StringList(val=values)).SerializeToString()) == values
    floats = np.arange(num_texts, dtype=np.float32)
    found = stored_values.parse_value(Value(float_list_val=FloatList(val=floats)).SerializeToString())
    np.testing.assert_array_equal(found, floats)


@given(st.floats(width=32, allow_nan=False))
def test_floats_come_back_exactly(value: float) -> None:
    assert stored_values.parse_value(Value(float_val=value).SerializeToString()) == value
    assert stored_values.parse_value(Value(double_val=value).SerializeToString()) == value


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=40))
def test_vectors_come_back_exactly(values: list[float]) -> None:
    parsed = stored_values.parse_value(Value(float_list_val=FloatList(val=values)).SerializeToString())
    assert parsed.dtype == np.float32
    assert parsed.tolist() == values


def test_null_and_nothing_are_none() -> None:
    assert stored_values.parse_value(Value(null_val=0).SerializeToString()) is None
    assert stored_values.parse_value(b"") is None


@given(st.binary(max_size=60))
def test_garbage_never_does_worse_than_a_clear_error(data: bytes) -> None:
    with contextlib.suppress(stored_values.OnlineStoreError):
        stored_values.parse_value(data)


def test_other_types_are_named() -> None:
    with pytest.raises(stored_values.OnlineStoreError, match="type number 4"):
        stored_values.parse_value(Value(int64_val=3).SerializeToString())
    with pytest.raises(stored_values.OnlineStoreError, match="type number 18"):
        stored_values.parse_value(Value(unix_timestamp_list_val={"val": [1]}).SerializeToString())
    with pytest.raises(stored_values.OnlineStoreError, match="damaged"):
        stored_values.parse_value(Value(string_val="abcdef").SerializeToString()[:-2])


def test_a_store_without_a_view_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    with pytest.raises(online_store.OnlineStoreError, match="is missing"):
        online_store.OnlineStore(path, "lorefuse", {})
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE lorefuse_user_stats (entity_key BLOB, feature_name TEXT, value BLOB)")
    with pytest.raises(online_store.OnlineStoreError, match="lacks the tables lorefuse_user_interest"):
        online_store.OnlineStore(path, "lorefuse", {"user_stats": [], "user_interest": []})
    (tmp_path / "broken.db").write_bytes(b"not a database, but long enough to look at" * 40)
    with pytest.raises(online_store.OnlineStoreError, match="not an online store"):
        online_store.OnlineStore(str(tmp_path / "broken.db"), "lorefuse", {"user_stats": []})


FEATURES: dict[str, object] = {
    "number": 0.5,
    "nothing": None,
    "empty": "",
    "word": "Füße",
    "texts": ["a", "", "b\n" * 80],
    "vector": np.arange(40, dtype=np.float32),
}
KINDS = {float: "float_val", str: "string_val", list: "string_list_val", np.ndarray: "float_list_val"}
ONE_AND_MANY = pytest.mark.parametrize("num_entities", [1, 100])


def cell(value: object) -> bytes:
    if value is None:
        return b""
    kind = KINDS[type(value)]
    return Value(**{kind: {"val": value} if kind.endswith("list_val") else value}).SerializeToString()


def written(path: Path, rows: list[tuple[bytes, str, object]], encoding: str = "UTF-8") -> ModuleType:
    """A store of one view, `facts`, that holds rows of (key, name, serialized value)."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(
            "CREATE TABLE p_facts (entity_key BLOB, feature_name TEXT, value BLOB, "
            "PRIMARY KEY (entity_key, feature_name))"
        )
        connection.executemany("INSERT INTO p_facts VALUES (?, ?, ?)", rows)
    return online_store.OnlineStore(str(path), "p", {"facts": list(FEATURES)})


def entities(number: int, features: dict[str, object]) -> list[tuple[bytes, str, object]]:
    keys = stored_values.entity_keys("id", [f"u{n}" for n in range(number)])
    return [(key, name, cell(value)) for name, value in features.items() for key in keys]


def assert_same(found: dict[str, object], features: dict[str, object]) -> None:
    expected = {name: value for name, value in features.items() if value is not None}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)  # type: ignore[arg-type]


@ONE_AND_MANY
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16"])
def test_entities_come_back(tmp_path: Path, num_entities: int, encoding: str) -> None:
    store = written(tmp_path / "s.db", entities(num_entities, {**FEATURES, "not asked for": 2.0}), encoding)
    ids = [f"u{n}" for n in reversed(range(num_entities))]
    *found, unknown, again = store.read("id", [*ids, "nobody", ids[0]])
    assert unknown == {}
    for features in [*found, again]:
        assert_same(features, FEATURES)


def test_threads_have_a_connection_each(tmp_path: Path) -> None:
    store = written(tmp_path / "s.db", entities(20, FEATURES))
    ids = [f"u{n}" for n in range(20)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: store.read("id", ids), range(40)):
            for features in found:
                assert_same(features, FEATURES)
    store.close()


@ONE_AND_MANY
@pytest.mark.parametrize(
    "damaged", [None, "abcde", 7, b"\x35\x00", b"\x12\x05abc", Value(int64_val=3).SerializeToString()]
)
def test_damage_in_one_value_is_an_error(tmp_path: Path, num_entities: int, damaged: object) -> None:
    rows = entities(num_entities, {"number": 1.0, "word": "w"})
    rows[-1] = (*rows[-1][:2], damaged)
    store = written(tmp_path / "s.db", rows)
    with pytest.raises(online_store.OnlineStoreError, match=r"a value (is damaged|has the type number 4)"):
        store.read("id", [f"u{n}" for n in range(num_entities)])
    only = written(tmp_path / "t.db", [(rows[0][0], "word", damaged)])
    with pytest.raises(online_store.OnlineStoreError, match=r"a value (is damaged|has the type number 4)"):
        only.read("id", [f"u{n}" for n in range(num_entities)])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 129, 130, 131, 16_383, 16_384, 16_390, 2_097_152])
def test_heads_are_what_protobuf_writes(size: int) -> None:
    text = Value(string_val="x" * size).SerializeToString()
    assert text == stored_values._heads(len(text))[2] + b"x" * size
    vector = np.ones(1 + size // 4, np.float32)
    floats = Value(float_list_val=FloatList(val=vector)).SerializeToString()
    assert floats == stored_values._heads(len(floats))[1] + vector.tobytes()
    texts = Value(string_list_val=StringList(val=["x" * size])).SerializeToString()
    assert texts.startswith(stored_values._heads(len(texts))[0])
