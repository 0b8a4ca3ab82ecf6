"""Features in real Redis and PostgreSQL: the same as in files, to Feast's SDK and to the hand-written reader."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lorefuse.core.errors import ArtifactError, UnreachableError, UsageError
from lorefuse.core.schema import View
from lorefuse.core.settings import settings
from lorefuse.core.stores import redis_client
from lorefuse.feature_store import online
from lorefuse.feature_store.retrieve import retrieve_training_set
from lorefuse.feature_store.store import (
    apply_and_materialize,
    ensure_filled,
    online_features,
    open_store,
    point_in_time,
)
from tests.helpers.feature_world import World, make_world
from tests.helpers.module_file import served_module
from tests.helpers.store_servers import PASSWORD, Server

USERS = ["u0", "u1", "u7", "nobody", "ünïcode 🎬"]


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    """redis_store.py, imported as Triton's stub does."""
    return served_module("features", "redis_store")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def local_path(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("local")
    apply_and_materialize(world.feature_data_path, path)
    return path


@pytest.fixture
def store_path(production: dict[str, str], world: World, tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    project = online.project_name(world.feature_data_path, Path("feature_repo").resolve())
    if online.filled_from(project) is None:
        apply_and_materialize(world.feature_data_path, path)
    facts = {"project": project, "registry": "postgresql", "online_store": "redis", "views": []}
    (path / online.SERVERS_FILE).write_text(json.dumps(facts))
    return path


def views_of(world: World) -> dict[str, list[str]]:
    content = json.loads((world.feature_data_path / "views.json").read_text())["views"]
    return {name: list(view["fields"]) for name, view in content.items() if name.startswith("user_")}


def make_reader(reader: ModuleType, store_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LOREFUSE_ONLINE_STORE_URL", settings().online_store_url)
    return reader.RedisStore(online.store_project(store_path), views_of(world))


def test_no_secret_and_no_address_in_the_folder(world: World, production: dict[str, str], tmp_path: Path) -> None:
    facts = apply_and_materialize(world.feature_data_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [online.SERVERS_FILE]
    text = (tmp_path / online.SERVERS_FILE).read_text()
    assert "127.0.0.1" not in text
    assert "s3cret" not in text
    assert json.loads(text)["project"] == facts["project"]
    assert online.filled_from(facts["project"]) == world.feature_data_path


@pytest.mark.parametrize("view", sorted(View))
def test_redis_gives_the_bits_of_sqlite(world: World, local_path: Path, store_path: Path, view: View) -> None:
    names = list(json.loads((world.feature_data_path / "views.json").read_text())["views"][view]["fields"])
    prefix = "u" if view.startswith("user") else "i"
    ids = [f"{prefix}{n}" for n in range(12)] + ["nobody"]
    assert online_features(store_path, view, names, ids).equals(online_features(local_path, view, names, ids))


def test_the_reader_gives_the_bytes_of_the_sdk(
    reader: ModuleType, world: World, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_reader(reader, store_path, world, monkeypatch)
    store = open_store(store_path)
    for view, names in views_of(world).items():
        wanted = [f"{view}:{name}" for name in names]
        proto = store.get_online_features(wanted, [{"user_id": user} for user in USERS]).proto
        columns = dict(zip(proto.metadata.feature_names.val, proto.results, strict=True))
        raw = served.read_raw("user_id", USERS)
        for name in names:
            place = served.columns.index((view, name))
            got = [values[place] or b"" for values in raw]
            assert got == [value.SerializeToString() for value in columns[name].values], (view, name)


def test_the_reader_gives_the_bits_of_the_sqlite_reader(
    reader: ModuleType, world: World, store_path: Path, local_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = served_module("features", "online_store").OnlineStore(
        str(local_path / online.ONLINE_FILE), "lorefuse", views_of(world)
    )
    served = make_reader(reader, store_path, world, monkeypatch)
    users = [*(f"u{n}" for n in range(20)), *USERS]
    for expected, got in zip(files.read("user_id", users), served.read("user_id", users), strict=True):
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            if isinstance(value, np.ndarray):
                assert value.tobytes() == got[name].tobytes()
            else:
                assert value == got[name]


def test_the_training_set_is_the_same_to_the_byte(
    world: World, local_path: Path, store_path: Path, tmp_path: Path
) -> None:
    made = []
    for name, path in (("files", local_path), ("servers", store_path)):
        out_path = tmp_path / name
        out_path.mkdir()
        retrieve_training_set(world.dataset, world.split_path, world.vectors, world.feature_data_path, path, out_path)
        made.append({file.name: file.read_bytes() for file in out_path.iterdir()})
    assert made[0] == made[1]


def test_other_data_get_a_project_of_their_own(world: World, store_path: Path, tmp_path: Path) -> None:
    other = make_world(tmp_path / "other", text_dim=2)
    out_path = tmp_path / "out"
    out_path.mkdir()
    names = list(views_of(world)["user_interest"])
    before = online_features(store_path, View.USER_INTEREST, names, USERS)
    facts = apply_and_materialize(other.feature_data_path, out_path)
    assert facts["project"] != online.store_project(store_path)
    assert online_features(store_path, View.USER_INTEREST, names, USERS).equals(before)


def test_lost_features_are_refused_and_filled_again(
    reader: ModuleType, world: World, store_path: Path, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_reader(reader, store_path, world, monkeypatch)
    known = served.read("user_id", ["u1"])[0]
    assert known
    assert not ensure_filled(world.feature_data_path, store_path)
    redis_server.stop()
    redis_server.start()  # it keeps nothing on disk
    with pytest.raises(reader.OnlineStoreUnavailableError, match="has no features of lorefuse_"):
        served.read("user_id", ["u1"])
    with pytest.raises(ArtifactError, match="lorefuse run"):
        online.store_file(store_path)
    assert ensure_filled(world.feature_data_path, store_path)
    again = served.read("user_id", ["u1"])[0]
    assert str(again) == str(known)
    assert online.store_file(store_path) == store_path / online.SERVERS_FILE


def test_redis_away_is_one_clear_error(
    reader: ModuleType, world: World, store_path: Path, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_reader(reader, store_path, world, monkeypatch)
    redis_server.stop()
    start_s = time.monotonic()
    away = reader.OnlineStoreUnavailableError
    with pytest.raises(away, match="does not answer") as caught:
        served.read("user_id", ["u1"])
    with pytest.raises(away, match="a moment ago"):
        served.read("user_id", ["u1"])
    assert time.monotonic() - start_s < 2
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("LOREFUSE_ONLINE_STORE_DOWN", "newcomer")
    assert make_reader(reader, store_path, world, monkeypatch).read("user_id", ["u1", "u2"]) == [{}, {}]
    for action in (
        lambda: online_features(store_path, View.USER_STATS, ["user_log_count"], ["u1"]),
        lambda: apply_and_materialize(world.feature_data_path, store_path),
        lambda: online.store_file(store_path),
    ):
        with pytest.raises(UnreachableError, match="online store cannot be used") as said:
            action()
        assert PASSWORD not in str(said.value)
        assert "s3cret" not in str(said.value)


def test_postgres_away_is_one_clear_error(world: World, store_path: Path, postgres: Server, tmp_path: Path) -> None:
    postgres.stop()
    with pytest.raises(UnreachableError, match="registry cannot be used") as caught:
        point_in_time(store_path, world.dataset.interactions())
    assert "s3cret" not in str(caught.value)
    with pytest.raises(UnreachableError, match="registry cannot be used"):
        apply_and_materialize(world.feature_data_path, tmp_path)


def test_a_killed_filling_leaves_no_mark(
    world: World, store_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lorefuse.feature_store import store as module

    def dies(*arguments: object) -> list[str]:
        raise KeyboardInterrupt

    project = online.store_project(store_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "fill", dies)
        with pytest.raises(KeyboardInterrupt):
            apply_and_materialize(world.feature_data_path, tmp_path / "store")
    assert online.filled_from(project) is None
    assert ensure_filled(world.feature_data_path, store_path)


def test_without_the_settings_it_says_which_profile(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOREFUSE_PROFILE")
    with pytest.raises(UsageError, match="LOREFUSE_PROFILE=production-local"):
        open_store(store_path)


def test_what_triton_is_not_told_is_said(reader: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    error = reader.OnlineStoreError
    monkeypatch.delenv("LOREFUSE_ONLINE_STORE_URL", raising=False)
    with pytest.raises(error, match="LOREFUSE_ONLINE_STORE_URL is not set"):
        reader.RedisStore("lorefuse_x", {})
    monkeypatch.setenv("LOREFUSE_ONLINE_STORE_URL", "http://cache")
    with pytest.raises(error, match="not a Redis URL"):
        reader.RedisStore("lorefuse_x", {})
    monkeypatch.setenv("LOREFUSE_ONLINE_STORE_DOWN", "shrug")
    with pytest.raises(error, match="expected unavailable or newcomer"):
        reader.RedisStore("lorefuse_x", {})


def test_the_keys_are_feasts(store_path: Path) -> None:
    with redis_client(settings().online_store_url) as client:
        keys = [key for key in client.scan_iter(match="*user_id*") if key.endswith(b"lorefuse")]
        assert keys == []  # nothing goes into the project of the laptop
