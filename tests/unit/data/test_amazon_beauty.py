"""Real data that knows only what people took: Amazon-Beauty, where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorefuse.config import load_config
from lorefuse.core.schema import ITEM_ID, LABEL, ROW_ID, SPLIT, USER_ID
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.negatives import read_negatives
from lorefuse.data.split import load_split, split

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("LOREFUSE_SHARED_DATA", ROOT.parent / "shared" / "data"))


def test_order_leave_last_out_and_negatives_on_real_data(tmp_path: Path) -> None:
    folder = SHARED / "amazon-beauty"
    if not folder.is_dir():
        pytest.skip(f"there is no Amazon-Beauty to read: {folder} (set LOREFUSE_SHARED_DATA)")
    config = load_config(ROOT / "pipelines" / "configs" / "amazon_beauty.yaml")
    paths = {"interactions_path": folder / "interactions.parquet", "items_path": folder / "items.parquet"}
    data = config.data.model_copy(update={"source": config.data.source.model_copy(update=paths)})
    for name in ("dataset", "split"):
        (tmp_path / name).mkdir()
    ingest(data, tmp_path / "dataset")
    dataset = Dataset.open(tmp_path / "dataset")
    events = dataset.interactions()
    assert (len(events), events[USER_ID].nunique(), len(dataset.items())) == (198_502, 22_363, 12_101)
    assert (events[LABEL] == 1).all()
    assert dataset.items()["categories"].map(len).min() >= 0  # lists stay lists
    facts = split(dataset, config.split, tmp_path / "split", data.negatives)
    assert facts["counts"]["test"] == facts["counts"]["validation"] == 22_363  # one of each for everybody
    parts, negatives = load_split(tmp_path / "split")[0], read_negatives(tmp_path / "split")
    train = (parts[SPLIT] == "train").sum()
    assert len(negatives) == 4 * train + 20 * 2 * 22_363
    touched = events[USER_ID].to_numpy() + "|" + events[ITEM_ID].to_numpy()
    drawn = events[USER_ID].to_numpy()[negatives[ROW_ID]] + "|" + negatives[ITEM_ID].to_numpy()
    part = parts[SPLIT].to_numpy()
    for name, known in (("train", ["train"]), ("test", ["train", "validation", "test"])):
        mine = part[negatives[ROW_ID]] == name
        assert not pd.Series(drawn[mine]).isin(set(touched[np.isin(part, known)])).any()
