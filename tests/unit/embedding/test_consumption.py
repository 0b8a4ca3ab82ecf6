"""What train users like beside what; and encoders that have seen more than a split allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.core.errors import DataError, LeakError
from lorefuse.embedding.consumption import co_consumption, co_liked_pairs, liked_rows
from lorefuse.embedding.provenance import check_no_leak
from tests.helpers.embedding_world import CUTOFF, make_world


def test_only_liked_train_rows_in_the_order_of_time(tmp_path: Path) -> None:
    dataset, split_path = make_world(
        tmp_path,
        [  # user, item, day, label, part
            ("u1", "i3", 3, 1, "train"),
            ("u0", "i0", 1, 1, "train"),
            ("u1", "i1", 1, 1, "train"),
            ("u1", "i2", 2, 0, "train"),
            ("u0", "i4", 9, 1, "test"),
            ("u0", "i3", 2, 1, "excluded"),
        ],
    )
    liked = liked_rows(dataset, split_path)
    assert liked.user_row.tolist() == [0, 1, 1]
    assert liked.item_row.tolist() == [0, 1, 3]
    assert liked.data_cutoff == CUTOFF
    assert co_liked_pairs(liked, 1).tolist() == [[1, 3]]


def test_pairs_span_the_gap_and_no_further(tmp_path: Path) -> None:
    rows = [("u0", f"i{n % 4}", n, 1, "train") for n in range(5)] + [("u1", "i0", 9, 1, "train")]
    liked = liked_rows(*make_world(tmp_path, rows))
    assert co_liked_pairs(liked, 1).tolist() == [[0, 1], [0, 3], [1, 2], [2, 3]]
    assert [0, 0] not in co_liked_pairs(liked, 4).tolist()
    assert len(co_liked_pairs(liked, 4)) == 6


def test_items_of_one_taste_are_near_each_other(tmp_path: Path) -> None:
    """Even users like even items, odd users odd ones; item i10 has no liked row."""
    rows = [
        (f"u{u}", f"i{i}", u + i, int(i % 2 == u % 2), "train") for u in range(12) for i in range(10) if (u + i) % 5
    ]
    target = co_consumption(liked_rows(*make_world(tmp_path, rows, num_items=11)), 2)
    cosine = target.vectors @ target.vectors.T
    same = (np.arange(10)[:, None] + np.arange(10)) % 2 == 0
    assert cosine[:10, :10][same].min() > cosine[:10, :10][~same].max() + 0.3
    assert not target.vectors[10].any()
    assert target.weight[10] == 0
    np.testing.assert_allclose(target.weight[0], np.log(1 + sum(1 for r in rows if r[1] == "i0" and r[3])), rtol=1e-6)


def test_one_user_has_no_tastes_to_tell_apart(tmp_path: Path) -> None:
    liked = liked_rows(*make_world(tmp_path, [("u0", "i0", 1, 1, "train"), ("u0", "i1", 2, 1, "train")]))
    with pytest.raises(DataError, match="supervised"):
        co_consumption(liked, 2)


@pytest.mark.parametrize(
    ("data_cutoff", "fitted", "message"),
    [
        ("2020-01-05T00:00:00.000001+00:00", [True, False, False], "later data"),
        ("2020-01-05T01:00:00+02:00", [True, False, True], "1 cold items, e.g. c"),
    ],
)
def test_an_encoder_that_knows_too_much_is_refused(data_cutoff: str, fitted: list[bool], message: str) -> None:
    with pytest.raises(LeakError, match=message) as caught:
        leak_check(data_cutoff, fitted)
    assert "fix:" in str(caught.value)


def test_an_encoder_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    leak_check("2020-01-05T00:00:00+00:00", [True, False, False])
    leak_check(None, [False, False, False])


def leak_check(data_cutoff: str | None, fitted: list[bool]) -> None:
    check_no_leak(
        data_cutoff,
        np.array(fitted),
        is_train=np.array([True, True, False]),
        split_cutoff="2020-01-05T00:00:00+00:00",
        item_ids=["a", "b", "c"],
    )
