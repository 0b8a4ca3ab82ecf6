"""Splits: hand-computed cuts, no look ahead, nothing lost, the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorefuse.config import SplitConfig
from lorefuse.core.errors import ArtifactError, DataError, LeakError
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.split import assert_no_leak, assign, few_shot_users, load_split, split
from tests.unit.data.conftest import Shop


def frame(rows: list[tuple[str, str, int]]) -> pd.DataFrame:
    """Return interactions as `ingest` leaves them: sorted, rows numbered."""
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "event_timestamp"])
    table["event_timestamp"] = pd.to_datetime(table["event_timestamp"], unit="s", utc=True)
    table = table.sort_values(["event_timestamp", "user_id", "item_id"], ignore_index=True)
    return table.assign(row_id=np.arange(len(table)))


def config(**changes: Any) -> SplitConfig:
    return SplitConfig(**{"cold_item_share": 0.0, **changes})


def test_each_user_is_cut_in_their_own_time() -> None:
    events = frame([("a", f"i{n}", n) for n in range(10)] + [("b", f"i{n}", 100 - n) for n in range(5)])
    parts = assign(events, config())
    of_a = parts["split"][events["user_id"] == "a"].tolist()
    of_b = parts["split"][events["user_id"] == "b"].tolist()
    assert of_a == ["train"] * 8 + ["validation"] + ["test"]
    assert of_b == ["train"] * 4 + ["test"]  # floor(4.5) = 4: no validation row


def test_equal_times_of_a_user_are_cut_by_item_id() -> None:
    events = frame([("a", f"i{n}", 7) for n in range(10)]).sample(frac=1, random_state=0)
    parts = assign(events, config())
    order = np.argsort(events["item_id"].to_numpy())
    assert parts["split"].to_numpy()[order].tolist() == ["train"] * 8 + ["validation"] + ["test"]


def test_shares_that_floating_point_spoils_are_cut_right() -> None:
    events = frame([("a", f"i{n}", n) for n in range(10)])
    assert 0.7 + 0.2 < 0.9
    parts = assign(events, config(train_share=0.7, validation_share=0.2))
    assert parts["split"].tolist() == ["train"] * 7 + ["validation"] * 2 + ["test"]


def test_a_global_cut_never_tears_a_moment_apart() -> None:
    times = [0, 1, 2, 3, 4, 5, 6, 7, 7, 9, 10, 11]  # floor(0.7 * 12) = 8 would fall between the two 7s
    events = frame([("a", f"i{n}", second) for n, second in enumerate(times)])
    parts = assign(events, config(strategy="global_time", train_share=0.7, validation_share=0.2))
    # A moment belongs where its first row falls: both 7s have rank 7 and stay in train.
    assert parts["split"].tolist() == ["train"] * 9 + ["validation"] + ["test"] * 2


def test_held_out_items_leave_the_train_part() -> None:
    events = frame([(f"u{n % 4}", f"i{n % 10}", n) for n in range(80)])
    parts = assign(events, config(cold_item_share=0.2))
    cold_items = set(events["item_id"][parts["cold"]])
    assert len(cold_items) == 2
    is_cold = events["item_id"].isin(cold_items)
    assert set(parts["split"][is_cold]) <= {"validation", "test", "excluded"}
    assert not (parts["split"][~is_cold] == "excluded").any()
    plain = assign(events, config())
    was_train = (plain["split"] == "train") & is_cold
    assert ((parts["split"] == "excluded") == was_train).all()


def test_an_item_that_is_new_by_nature_is_cold() -> None:
    events = frame([("a", f"i{n}", n) for n in range(10)])
    parts = assign(events, config())
    assert parts["cold"].tolist() == [False] * 8 + [True, True]


EVENTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([f"i{n}" for n in range(8)]), st.integers(0, 30)),
    min_size=30,
    max_size=80,
    unique=True,
).map(frame)
CONFIGS = st.builds(
    SplitConfig,
    strategy=st.sampled_from(["per_user_time", "global_time"]),
    train_share=st.sampled_from([0.5, 0.7, 0.8]),
    validation_share=st.sampled_from([0.1, 0.15]),
    cold_item_share=st.sampled_from([0.0, 0.12, 0.4]),
    seed=st.integers(0, 5),
)


@given(EVENTS, CONFIGS)
@settings(max_examples=80, deadline=None)
def test_any_split_is_whole_blind_to_the_future_and_repeatable(events: pd.DataFrame, how: SplitConfig) -> None:
    try:
        parts = assign(events, how)
    except DataError:
        return  # a part would be empty
    assert parts["row_id"].tolist() == events["row_id"].tolist()
    assert set(parts["split"]) <= {"train", "validation", "test", "excluded"}
    assert_no_leak(events, parts, how)
    pd.testing.assert_frame_equal(parts, assign(events, how))
    # In words of our own: whoever is in train is not later than whoever is in validation, and that than test.
    rank = parts["split"].map({"train": 0, "excluded": 0, "validation": 1, "test": 2})
    groups = events["user_id"] if how.strategy == "per_user_time" else pd.Series("all", events.index)
    for _, rows in events.assign(rank=rank).groupby(groups):
        by_time = rows.groupby("rank")["event_timestamp"].agg(["min", "max"]).sort_index()
        assert (by_time["max"].to_numpy()[:-1] <= by_time["min"].to_numpy()[1:]).all()
    train_items = set(events["item_id"][parts["split"] == "train"])
    assert (parts["cold"] == ~events["item_id"].isin(train_items)).all()


@given(EVENTS, CONFIGS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_does_not_matter(events: pd.DataFrame, how: SplitConfig, random: Any) -> None:
    try:
        parts = assign(events, how)
    except DataError:
        return
    order = list(range(len(events)))
    random.shuffle(order)
    shuffled = assign(events.iloc[order].reset_index(drop=True), how)
    pd.testing.assert_frame_equal(shuffled.sort_values("row_id", ignore_index=True), parts)


@pytest.mark.parametrize("strategy", ["per_user_time", "global_time"])
def test_a_leak_is_found(strategy: Any) -> None:
    events = frame([("a", f"i{n}", n) for n in range(10)])
    how = config(strategy=strategy)
    parts = assign(events, how)
    swapped = parts.assign(split=parts["split"].to_numpy()[::-1])
    with pytest.raises(LeakError, match="later than"):
        assert_no_leak(events, swapped, how)
    with pytest.raises(LeakError, match="cold item"):
        assert_no_leak(events, parts.assign(cold=True), how)


@pytest.mark.parametrize("strategy", ["per_user_time", "global_time"])
def test_an_empty_part_is_refused(strategy: Any) -> None:
    with pytest.raises(DataError, match="would be empty") as caught:
        assign(frame([("a", "i1", 1), ("b", "i2", 1)]), config(strategy=strategy))
    assert caught.value.fix


def test_written_and_read_back(shop: Shop, tmp_path: Path) -> None:
    shop.write_rows(*[f"u{1 + n % 2},i{1 + n % 3},{1 + n % 5},{n + 1}" for n in range(40)])
    for name in ("dataset", "first", "second"):
        (tmp_path / name).mkdir()
    ingest(shop.config(), tmp_path / "dataset")
    dataset = Dataset.open(tmp_path / "dataset")
    facts = split(dataset, config(cold_item_share=0.4), tmp_path / "first")
    split(dataset, config(cold_item_share=0.4), tmp_path / "second")
    for name in ("split.parquet", "split.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    parts, read_facts = load_split(tmp_path / "first")
    assert read_facts == facts
    assert sum(facts["counts"].values()) == len(parts) == 40
    assert len(facts["held_out_items"]) == 1
    train = dataset.interactions()[(parts["split"] == "train").to_numpy()]
    assert facts["data_cutoff"] == train["event_timestamp"].max().isoformat()


@pytest.mark.parametrize("name", ["split.parquet", "split.json"])
def test_a_split_cut_short_is_refused(shop: Shop, tmp_path: Path, name: str) -> None:
    shop.write_rows(*[f"u{1 + n % 2},i{1 + n % 3},{1 + n % 5},{n + 1}" for n in range(40)])
    (tmp_path / "dataset").mkdir()
    (tmp_path / "split").mkdir()
    ingest(shop.config(), tmp_path / "dataset")
    split(Dataset.open(tmp_path / "dataset"), config(), tmp_path / "split")
    content = (tmp_path / "split" / name).read_bytes()
    (tmp_path / "split" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="not a whole split"):
        load_split(tmp_path / "split")


@pytest.mark.parametrize("strategy", ["per_user_time", "global_time", "leave_last_out"])
def test_few_shot_users_keep_their_first_rows_and_all_their_test_rows(strategy: str) -> None:
    rng = np.random.default_rng(0)
    events = frame([(f"u{n:02}", f"i{rng.integers(40)}", int(rng.integers(900))) for n in range(20) for _ in range(15)])
    whole = assign(events, config(strategy=strategy))["split"].to_numpy()
    few = few_shot_users(events, config(few_shot_user_share=0.3))
    assert len(few) == 6
    for shots in (0, 1, 3, 5):
        chosen = config(strategy=strategy, few_shot_user_share=0.3, num_shots=shots)
        parts = assign(events, chosen)
        assert_no_leak(events, parts, chosen)
        part = parts["split"].to_numpy()
        assert ((part == "test") == (whole == "test")).all()
        for user, rows in events.groupby("user_id"):
            ordered = rows.sort_values(["event_timestamp", "item_id"], kind="stable").index
            train = [row for row in ordered if whole[row] == "train"]
            kept = [row for row in ordered if part[row] == "train"]
            assert kept == (train[:shots] if user in few else train)
            assert user not in few or not (part[rows.index] == "validation").any()
