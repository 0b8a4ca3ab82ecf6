"""Feast's own engines for data past one machine, by configuration: Spark gives our join's bits, Ray is refused.

Spark runs here in one local process, for real, where its package and Java are: ``pip install 'pyspark>=4,<5'``.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import feast
import numpy as np
import pytest
import yaml

from lorefuse.core.errors import ConfigError
from lorefuse.core.schema import View
from lorefuse.feature_store import online
from lorefuse.feature_store import store as module
from lorefuse.feature_store.materialize import apply_definitions, definitions_path, fill, open_config
from lorefuse.feature_store.retrieve import retrieve_training_set
from lorefuse.feature_store.store import ASOF, apply_and_materialize, online_features, point_in_time
from lorefuse.features.aggregates import USER_NUMERIC
from lorefuse.training_set.arrays import ARRAYS_FILE
from tests.helpers.feature_world import World, make_world

PROJECT_PATH = Path(__file__).resolve().parents[2]
LOCAL = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
}
needs_spark = pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="no pyspark, or no Java 17: pip install 'pyspark>=4,<5'",
)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no ray: pip install ray")


def documented() -> dict[str, Any]:
    """The offline store that docs/scale.md tells people to write, by its type."""
    text = (PROJECT_PATH / "docs" / "scale.md").read_text("utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    found = [block["offline_store"] for block in blocks if "offline_store" in block]
    return {block["type"]: block for block in found}


def config_of(path: Path, offline_store: dict[str, Any]) -> feast.RepoConfig:
    return feast.RepoConfig(
        project=online.LOCAL_PROJECT,
        provider="local",
        registry=str(path / online.REGISTRY_FILE),
        online_store={"type": "sqlite", "path": str(path / online.ONLINE_FILE)},
        offline_store=offline_store,
        batch_engine={"type": "lorefuse.feature_store.bulk_engine.BulkComputeEngine"},
        entity_key_serialization_version=3,
        repo_path=str(definitions_path()),
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def test_the_production_file_names_our_store_and_no_unknown_key() -> None:
    content = yaml.safe_load((definitions_path() / online.PRODUCTION_YAML).read_text("utf-8"))
    assert content["offline_store"]["type"] == ASOF
    assert feast.RepoConfig(**content | {"project": "any"}).offline_store.type == ASOF  # Feast forbids unknown keys
    assert list(documented()) == ["spark"]


def test_ray_is_refused_because_a_label_would_see_itself(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, {"type": ASOF})
    apply_definitions(config, definitions_path(), world.feature_data_path)
    store = open_config(config)
    monkeypatch.setattr(store.config, "offline_config", {"type": "ray"})
    monkeypatch.setattr(module, "open_store", lambda _: store)
    with pytest.raises(ConfigError, match="see its own moment"):
        point_in_time(tmp_path, world.dataset.interactions())


@needs_ray
def test_why_ray_is_refused() -> None:
    """Should Feast one day keep what is finer than a second, Ray need be refused no longer."""
    import pandas as pd
    from feast.infra.ray_shared_utils import normalize_timestamp_columns

    moments = pd.DataFrame({"at": pd.to_datetime(["2020-01-01 00:00:00.000001"], utc=True)})
    assert normalize_timestamp_columns(moments, "at")["at"].iloc[0] == pd.Timestamp("2020-01-01", tz="UTC")


@needs_spark
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_spark_gives_the_training_set_and_the_online_store_of_our_join(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs, rows = tmp_path / "ours", tmp_path / "theirs", {}
    ours.mkdir()
    theirs.mkdir()
    apply_and_materialize(world.feature_data_path, ours)
    conf = documented()["spark"]
    assert conf["spark_conf"].keys() >= {"spark.sql.session.timeZone"}
    config = config_of(theirs, conf | {"spark_conf": conf["spark_conf"] | LOCAL | {"spark.master": "local[1]"}})
    views = fill(config, definitions_path(), world.feature_data_path)
    assert View.USER_STATS in views
    for path in (ours, theirs):
        if path == theirs:
            monkeypatch.setattr(module, "open_store", lambda _: open_config(config))
        rows[path] = tmp_path / f"rows-of-{path.name}"
        rows[path].mkdir()
        folders = (world.split_path, world.vectors, world.feature_data_path, path, rows[path])
        retrieve_training_set(world.dataset, *folders)
        features = online_features(path, View.USER_STATS, USER_NUMERIC, ["u0", "u7", "nobody"])
        np.save(rows[path] / "online.npy", features[list(USER_NUMERIC)].to_numpy(np.float32))
    for name in (ARRAYS_FILE, "online.npy"):
        assert (rows[theirs] / name).read_bytes() == (rows[ours] / name).read_bytes(), name
