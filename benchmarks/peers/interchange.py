"""The folder that all peers read: our split of MovieLens-100K, or made-up rows of a chosen size.

``R`` rows, ``F`` fields, ``L`` history length.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from peers.protocol import TEST

from lorefuse.config import DataConfig, MovieLensSource, SplitConfig
from lorefuse.core.schema import EVENT_TIMESTAMP, ITEM_ID, LABEL, ROW_ID, SPLIT, USER_ID, VALUE, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.split import load_split, split
from lorefuse.features.history import recent_liked
from lorefuse.features.rows import Interactions
from lorefuse.features.vocabulary import Vocabulary

USER_FIELDS = ("user_id", "gender", "occupation", "age_bucket")
ITEM_FIELDS = ("item_id", "release_year", "release_decade", "genres")
"""A film's set of genres is one category: not every peer reads fields with several values."""
HISTORY_LENGTH = 20
PARTS = {part: code for code, part in enumerate((Split.TRAIN, Split.VALIDATION, Split.TEST, Split.EXCLUDED))}


@dataclass(frozen=True)
class TestRows:
    """What our metrics need beside a peer's scores of the test rows.

    Attributes:
        label: float32 (R,).
        user: int64 (R,), one number a user.
        cold: bool (R,), items without a train row.
    """

    label: NDArray[np.float32]
    user: NDArray[np.int64]
    cold: NDArray[np.bool_]


def write_movielens(folder_path: Path) -> TestRows:
    """Write MovieLens-100K as the product splits it: likes are ratings of 4 or 5, per-user time, 12 % cold items.

    Raises:
        LorefuseError: The data set cannot be had.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data_path, split_path = Path(scratch) / "dataset", Path(scratch) / "split"
        data_path.mkdir(), split_path.mkdir()
        ingest(DataConfig(source=MovieLensSource(graph=False)), data_path)
        dataset = Dataset.open(data_path)
        split(dataset, SplitConfig(), split_path)
        frame = dataset.interactions().merge(load_split(split_path)[0], on=ROW_ID, validate="1:1")
        users, items = dataset.users(), dataset.items()
    items["genres"] = items["genres"].map("|".join)
    frame = frame.merge(users, on=USER_ID, how="left").merge(items[[ITEM_ID, *ITEM_FIELDS[1:]]], on=ITEM_ID)
    frame = frame.sort_values(ROW_ID, ignore_index=True)
    part = frame[SPLIT].map(PARTS).to_numpy(np.uint8)
    is_train = part == PARTS[Split.TRAIN]
    fields, sizes = [], []
    for name in (*USER_FIELDS, *ITEM_FIELDS):
        column = frame[name].astype(str)
        vocabulary = Vocabulary.fit(column[is_train])
        fields.append(vocabulary.encode(column))
        sizes.append(vocabulary.size)
    label = frame[LABEL].to_numpy(np.float32)
    history = _history(frame, fields[len(USER_FIELDS)], label, is_train)
    _write(folder_path, np.stack(fields, axis=1), label, part, history, sizes)
    test = part == TEST
    user = frame[USER_ID].astype("category").cat.codes.to_numpy(np.int64)
    return TestRows(label[test], user[test], frame["cold"].to_numpy()[test])


def write_synthetic(folder_path: Path, num_rows: int, num_users: int, num_items: int) -> None:
    """Write made-up rows with the fields of MovieLens and Zipf-like items, all of them for training but a few."""
    rng = np.random.default_rng(0)
    sizes = [num_users + 1, 3, 22, 8, num_items + 1, 73, 11, 217]
    user, item = rng.integers(1, sizes[0], num_rows), 1 + rng.zipf(1.3, num_rows) % num_items
    columns = [user, *(user * 7919 % (size - 1) + 1 for size in sizes[1:4])]
    columns += [item, *(item * 104729 % (size - 1) + 1 for size in sizes[5:])]
    part = np.zeros(num_rows, np.uint8)
    part[-200:-100], part[-100:] = 1, 2
    label = (rng.random(num_rows) < 0.55).astype(np.float32)
    _write(folder_path, np.stack(columns, axis=1), label, part, np.zeros((num_rows, 0), np.int64), sizes)


def keep_train_rows(folder_path: Path, num_rows: int) -> None:
    """Leave so many train rows in a folder, drawn at random, and exclude the others."""
    with np.load(folder_path / "rows.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    train = np.random.default_rng(0).permutation(np.flatnonzero(arrays["part"] == PARTS[Split.TRAIN]))
    arrays["part"][train[num_rows:]] = PARTS[Split.EXCLUDED]
    np.savez(folder_path / "rows.npz", **arrays)


def _history(
    frame: pd.DataFrame, item_code: NDArray[np.int64], label: NDArray[np.float32], is_train: NDArray[np.bool_]
) -> NDArray[np.int64]:
    user = frame[USER_ID].astype("category").cat.codes.to_numpy(np.int32)
    timestamp_us = frame[EVENT_TIMESTAMP].dt.tz_convert(None).astype("datetime64[us]").astype(np.int64).to_numpy()
    value = frame[VALUE].to_numpy(np.float32)
    # `recent_liked` returns item rows + 1; codes count from 1 already.
    rows = Interactions.of(user, (item_code - 1).astype(np.int32), timestamp_us, label, value, is_train, "binary")
    return recent_liked(rows, HISTORY_LENGTH).astype(np.int64)


def _write(
    folder_path: Path,
    fields: NDArray[np.int64],
    label: NDArray[np.float32],
    part: NDArray[np.uint8],
    history: NDArray[np.int64],
    sizes: list[int],
) -> None:
    np.savez(folder_path / "rows.npz", fields=fields, label=label, part=part, history=history)
    content = {
        "names": [*USER_FIELDS, *ITEM_FIELDS],
        "sizes": [int(size) for size in sizes],
        "num_user_fields": len(USER_FIELDS),
    }
    (folder_path / "fields.json").write_text(json.dumps(content), "utf-8")
