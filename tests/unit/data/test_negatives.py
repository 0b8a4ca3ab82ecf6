"""Sampled negatives: never touched, of the right temperature, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.config import NegativesConfig, SplitConfig
from lorefuse.core.errors import ArtifactError, DataError
from lorefuse.core.schema import COLD, EVENT_TIMESTAMP, ITEM_ID, LABEL, ROW_ID, SPLIT, USER_ID, VALUE, Split
from lorefuse.data.negatives import read_negatives, sample_negatives
from lorefuse.data.split import assert_no_leak, assign


def interactions(pairs: list[tuple[int, int]]) -> pd.DataFrame:
    """Each user takes items in the order given, one a second."""
    frame = pd.DataFrame(pairs, columns=["user", "item"]).drop_duplicates(ignore_index=True)
    order = frame.groupby("user").cumcount()
    return pd.DataFrame(
        {
            ROW_ID: np.arange(len(frame)),
            USER_ID: "u" + frame["user"].astype(str),
            ITEM_ID: "i" + frame["item"].astype(str),
            EVENT_TIMESTAMP: pd.to_datetime(order, unit="s", utc=True),
            VALUE: np.float32(1),
            LABEL: np.float32(1),
        }
    )


def shop(num_users: int = 12, num_items: int = 30, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    pairs = [(user, int(item)) for user in range(num_users) for item in rng.choice(num_items, 5, replace=False)]
    events = interactions(pairs)
    return events, assign(events, SplitConfig(strategy="leave_last_out", cold_item_share=0.2))


def test_the_last_row_is_test_and_the_one_before_validation() -> None:
    events = interactions([(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2)])
    config = SplitConfig(strategy="leave_last_out", cold_item_share=0.0)
    frame = assign(events, config)
    assert frame[SPLIT].tolist() == ["train", "train", "validation", "test", "train", "train"]
    assert_no_leak(events, frame, config)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 50), st.integers(1, 3), st.integers(1, 4), st.sampled_from(["uniform", "popularity"]))
def test_negatives_are_what_they_should_be(seed: int, num_train: int, num_eval: int, sampler: str) -> None:
    events, frame = shop(seed=seed)
    config = NegativesConfig(num_train=num_train, num_eval=num_eval, sampler=sampler, seed=seed)  # type: ignore[arg-type]
    found = sample_negatives(events, frame, config)
    part = frame[SPLIT].to_numpy()
    train_items = set(events[ITEM_ID][part == Split.TRAIN])
    order = {"excluded": 0, Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}
    age = np.array([order[name] for name in part])
    counts = found.groupby(ROW_ID).size()
    for row, items in found.groupby(ROW_ID)[ITEM_ID]:
        mine = (events[USER_ID] == events[USER_ID][row]) & (age <= age[row])
        assert not set(items) & set(events[ITEM_ID][mine])
        is_cold = frame[COLD][row] and part[row] != Split.TRAIN
        assert all((item in train_items) != is_cold for item in items)
        assert counts[row] == (num_train if part[row] == Split.TRAIN else num_eval)
    assert set(counts.index) == set(np.flatnonzero(part != Split.EXCLUDED))
    assert found.equals(sample_negatives(events, frame, config))


def test_what_a_user_takes_later_may_be_a_negative_before() -> None:
    """Were it never one, its absence would give the test rows away."""
    events = interactions([(0, item) for item in range(6)])
    part = np.array(["train", "train", "train", "train", "validation", "test"])
    frame = pd.DataFrame({ROW_ID: events[ROW_ID], SPLIT: part, COLD: False})
    others = interactions([(1, 4), (1, 5), (2, 4), (2, 5)]).assign(
        row_id=range(6, 10), user_id=["u1", "u1", "u2", "u2"]
    )
    frame = pd.concat([frame, pd.DataFrame({ROW_ID: range(6, 10), SPLIT: "train", COLD: False})])
    found = sample_negatives(pd.concat([events, others]), frame, NegativesConfig(num_train=8, num_eval=0, seed=0))
    assert set(found[found[ROW_ID] < 4][ITEM_ID]) == {"i4", "i5"}


def test_popular_items_are_drawn_more_often() -> None:
    pairs = [(user, 0) for user in range(40)] + [(user, 1 + user % 20) for user in range(40)] + [(99, 50), (99, 51)]
    events = interactions(pairs)
    frame = pd.DataFrame({ROW_ID: events[ROW_ID], SPLIT: "train", COLD: False})
    found = sample_negatives(events, frame, NegativesConfig(num_train=200, sampler="popularity"))
    lonely = found[found[ROW_ID] >= 80][ITEM_ID].value_counts(normalize=True)
    assert lonely["i0"] == pytest.approx(40**0.75 / (40**0.75 + 20 * 2**0.75), abs=0.06)


def test_a_user_who_has_everything_is_named() -> None:
    events = interactions([(0, 0), (0, 1), (0, 2), (1, 0)])
    frame = pd.DataFrame({ROW_ID: events[ROW_ID], SPLIT: "train", COLD: False})
    with pytest.raises(DataError, match="touched nearly every item"):
        sample_negatives(events, frame, NegativesConfig(num_train=1))


def test_a_half_written_file_is_refused(tmp_path: Path) -> None:
    assert not len(read_negatives(tmp_path))
    (tmp_path / "negatives.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"negatives\.parquet"):
        read_negatives(tmp_path)
