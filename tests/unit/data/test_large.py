"""Interactions read in batches and sorted on disk are those read as one table, quarantine included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorefuse.config import DataConfig, FileSource, LabelConfig
from lorefuse.data import large
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest


def _files(path: Path, *, with_users: bool, faults: bool = True) -> FileSource:
    rng = np.random.default_rng(0)
    size = 4000
    frame = pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(0, 300, size)],
            "item_id": [f"i{n}" for n in rng.integers(0, 90, size)],
            "timestamp": pd.array(1_600_000_000_000_000 + rng.permutation(size) // 3, "Int64"),
            "rating": rng.integers(1, 11, size) / 2,
        }
    )
    if faults:
        frame.loc[7, "item_id"], frame.loc[1100, "item_id"] = None, "nobody knows"
        frame.loc[2500, "user_id"], frame.loc[30, "rating"] = "  ", np.inf
        frame.loc[[41, 3900], "timestamp"] = [pd.NA, -1]
        frame.loc[55, "user_id"] = " u1 "  # blanks around an id are no fault
        frame = pd.concat([frame, frame.iloc[[100, 101, 3000]]])  # repeats, in other batches than the first
        frame = pd.concat([frame, frame.iloc[[-1]]])  # and in the same
        frame = pd.concat([frame, frame.iloc[[200, 300, 300]].assign(rating=[99.0, -9.0, -9.0])])  # of another value
    path.mkdir()
    frame.to_parquet(path / "interactions.parquet", index=False)
    pd.DataFrame({"item_id": [f"i{n}" for n in range(90)], "title": "t"}).to_csv(path / "items.csv", index=False)
    pd.DataFrame({"user_id": [f"u{n}" for n in range(295)]}).to_csv(path / "users.csv", index=False)
    users = {"users_path": path / "users.csv"} if with_users else {}
    paths = {"interactions_path": path / "interactions.parquet", "items_path": path / "items.csv", **users}
    return FileSource(timestamp_unit="us", **paths)


@pytest.mark.parametrize("with_users", [False, True], ids=["users-from-rows", "users-from-a-file"])
def test_batches_give_the_dataset_of_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_users: bool
) -> None:
    source = _files(tmp_path / "raw", with_users=with_users)
    config = DataConfig(source=source, label=LabelConfig(threshold=3.5), max_bad_share=0.2)
    assert not large.is_large(source)
    manifests = []
    for name, limit in (("one", large.MANY_ROWS), ("batches", 1)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(large, "MANY_ROWS", limit)
        monkeypatch.setattr(large, "BATCH_ROWS", 700)
        manifests.append(ingest(config, tmp_path / name))
    one, batches = (Dataset.open(tmp_path / name) for name in ("one", "batches"))
    pd.testing.assert_frame_equal(one.interactions(), batches.interactions())
    pd.testing.assert_frame_equal(one.users(), batches.users())
    pd.testing.assert_frame_equal(one.items(), batches.items())
    for name in ("counts", "cutoffs", "quarantined", "schema", "label_mean", "roles", "source"):
        assert manifests[0][name] == manifests[1][name], name
    said = [
        [(row["line"], row["reason"]) for row in map(json.loads, (path / "quarantine.jsonl").open(encoding="utf-8"))]
        for path in (one.path, batches.path)
    ]
    assert said[0] == said[1]
    assert len(said[0]) >= 12
    assert sum(reason.startswith("duplicate interaction: ") for _, reason in said[0]) == 2
    assert not list(batches.path.glob(".*"))  # nothing of the sort is left


def test_coded_interactions_are_the_interactions(tmp_path: Path) -> None:
    source = _files(tmp_path / "raw", with_users=False, faults=False)
    (tmp_path / "dataset").mkdir()
    ingest(DataConfig(source=source), tmp_path / "dataset")
    dataset = Dataset.open(tmp_path / "dataset")
    coded = dataset.coded_interactions()
    assert list(coded["user_id"].cat.categories) == sorted(coded["user_id"].cat.categories)
    plain = coded.astype({"user_id": object, "item_id": object})
    pd.testing.assert_frame_equal(plain, dataset.interactions())
