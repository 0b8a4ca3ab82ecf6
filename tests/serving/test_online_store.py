"""The hand-written reader of Feast's online store against Feast's own serialisation."""

from __future__ import annotations

import contextlib
import importlib.util
import sqlite3
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, StringList, Value
from hypothesis import given
from hypothesis import strategies as st

MODULE_PATH = Path(__file__).parents[2] / "serving" / "model_repository" / "features" / "1" / "online_store.py"
texts = st.text(st.characters(exclude_categories=["Cs"]))


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("served_online_store", MODULE_PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


online_store = load()


@given(texts)
def test_keys_are_feasts(text: str) -> None:
    expected = serialize_entity_key(EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=text)]))
    assert online_store.entity_key("user_id", text) == expected


@given(texts)
def test_texts_come_back(text: str) -> None:
    assert online_store.parse_value(Value(string_val=text).SerializeToString()) == text


@given(st.lists(texts))
def test_lists_of_texts_come_back(values: list[str]) -> None:
    assert online_store.parse_value(Value(string_list_val=StringList(val=values)).SerializeToString()) == values


@pytest.mark.parametrize("num_texts", [0, 1, 20, 200, 20_000, 300_000])  # sizes of one to four bytes
def test_long_lists_come_back(num_texts: int) -> None:
    values = [f"item {number}" for number in range(num_texts)]
    assert online_store.parse_value(Value(string_list_val=StringList(val=values)).SerializeToString()) == values
    floats = np.arange(num_texts, dtype=np.float32)
    found = online_store.parse_value(Value(float_list_val=FloatList(val=floats)).SerializeToString())
    np.testing.assert_array_equal(found, floats)


@given(st.floats(width=32, allow_nan=False))
def test_floats_come_back_exactly(value: float) -> None:
    assert online_store.parse_value(Value(float_val=value).SerializeToString()) == value
    assert online_store.parse_value(Value(double_val=value).SerializeToString()) == value


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=40))
def test_vectors_come_back_exactly(values: list[float]) -> None:
    parsed = online_store.parse_value(Value(float_list_val=FloatList(val=values)).SerializeToString())
    assert parsed.dtype == np.float32
    assert parsed.tolist() == values


def test_null_and_nothing_are_none() -> None:
    assert online_store.parse_value(Value(null_val=0).SerializeToString()) is None
    assert online_store.parse_value(b"") is None


@given(st.binary(max_size=60))
def test_garbage_never_does_worse_than_a_clear_error(data: bytes) -> None:
    with contextlib.suppress(online_store.OnlineStoreError):
        online_store.parse_value(data)


def test_other_types_are_named() -> None:
    with pytest.raises(online_store.OnlineStoreError, match="type number 4"):
        online_store.parse_value(Value(int64_val=3).SerializeToString())
    with pytest.raises(online_store.OnlineStoreError, match="type number 18"):
        online_store.parse_value(Value(unix_timestamp_list_val={"val": [1]}).SerializeToString())
    with pytest.raises(online_store.OnlineStoreError, match="damaged"):
        online_store.parse_value(Value(string_val="abcdef").SerializeToString()[:-2])


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
