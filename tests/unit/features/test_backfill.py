"""Past days in ranges, and the features that their interactions saw."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from lorefuse.core.errors import UsageError
from lorefuse.feature_store.backfill import backfill_days
from lorefuse.feature_store.store import apply_and_materialize, point_in_time
from lorefuse.features.days import day_ranges
from tests.helpers.feature_world import make_world


def test_days_are_divided_and_the_last_range_may_be_short() -> None:
    assert day_ranges("2026-01-30", "2026-02-03", 2) == [
        {"first": "2026-01-30", "last": "2026-01-31"},
        {"first": "2026-02-01", "last": "2026-02-02"},
        {"first": "2026-02-03", "last": "2026-02-03"},
    ]
    assert day_ranges("2026-01-30", "2026-01-30", 7) == [{"first": "2026-01-30", "last": "2026-01-30"}]


@pytest.mark.parametrize(
    ("first", "last", "num_days", "words"),
    [
        ("2026-01-30", "2026-01-29", 1, "no days"),
        ("2026-01-30", "2026-02-30", 1, "cannot be read"),
        ("1970-01-01", "2026-01-01", 1, "too many"),
        ("2026-01-01", "2026-01-02", 0, "no days"),
    ],
)
def test_days_that_make_no_sense_are_refused(first: str, last: str, num_days: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        day_ranges(first, last, num_days)


def test_a_range_holds_its_rows_with_what_they_saw(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    store_path, out_path = tmp_path / "store", tmp_path / "out"
    store_path.mkdir()
    out_path.mkdir()
    apply_and_materialize(world.feature_data_path, store_path)
    events = world.dataset.interactions()
    day = events["event_timestamp"].min().date().isoformat()
    facts = backfill_days(world.dataset, world.feature_data_path, store_path, day, day, out_path)
    table = pq.read_table(out_path / f"{day}_{day}.parquet")
    assert facts == {"first": day, "last": day, "num_rows": len(events)}  # the world lives for less than a day
    assert table["row_id"].to_pylist() == events["row_id"].tolist()
    expected = point_in_time(store_path, events)
    for name in expected.column_names:
        assert table[name].equals(expected[name]), name
    ids = world.dataset.items()["item_id"].tolist()
    vector = world.vectors.knowledge["text"][ids.index(events["item_id"][5])]
    assert table["text_vector"][5].as_py() == pytest.approx(vector.tolist())
    assert table["label"].to_pylist() == events["label"].tolist()

    later = (pd.Timestamp(day) + pd.Timedelta(days=3)).date().isoformat()
    nothing = backfill_days(world.dataset, world.feature_data_path, store_path, later, later, out_path)
    assert nothing["num_rows"] == 0
    empty = pq.read_table(out_path / f"{later}_{later}.parquet")
    assert empty.num_rows == 0
    assert empty.schema == table.schema
