"""New rows joined to a dataset: the same as one whole ingest, with only the new rows read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from lorefuse.config import DataConfig, MovieLensSource
from lorefuse.core.errors import DataError
from lorefuse.data.append import append, fresh_rows, source_of
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from tests.unit.data.conftest import ITEMS, ROWS, Shop

NEW = ["u1,i3,4,3000", "u3,i1,1,2500", "u2,i2,5,200"]
"""A known user, a new one, and a row that is older than all others."""
HEADER = "user_id,item_id,rating,timestamp\n"


def _ingest(config: DataConfig, path: Path) -> Dataset:
    path.mkdir()
    ingest(config, path)
    return Dataset.open(path)


def _append(base: Dataset, shop: Shop, path: Path, rows: list[str], items: str | None = None, **more: Any) -> Dataset:
    new_path = shop.write("new.csv", more.pop("header", HEADER) + "\n".join(rows) + "\n")
    items_path = None if items is None else shop.write("new_items.csv", items)
    path.mkdir()
    config = more.pop("config", None) or shop.config(**more)
    append(base, config, new_path, items_path, path)
    return Dataset.open(path)


def test_texts_of_rows_come_along(shop: Shop, tmp_path: Path) -> None:
    header = "user_id,item_id,rating,timestamp,query,said\n"
    shop.write("interactions.csv", header + "u1,i1,5,100,red  hat,fine\nu2,i2,1,200,,\n")
    config = shop.config(context_text="query", review_text="said")
    base = _ingest(config, tmp_path / "base")
    assert base.row_texts("context_text") == ["red hat", ""]
    assert base.row_texts("review_text") == ["fine", ""]
    merged = _append(base, shop, tmp_path / "merged", ["u1,i2,4,300,blue,"], header=header, config=config)
    assert merged.row_texts("context_text") == ["red hat", "", "blue"]
    again = _ingest(DataConfig(source=source_of(merged)), tmp_path / "again")
    assert again.row_texts("context_text") == merged.row_texts("context_text")
    assert again.row_texts("review_text") == merged.row_texts("review_text") == ["fine", "", ""]


def test_appending_gives_what_one_whole_ingest_gives(shop: Shop, tmp_path: Path) -> None:
    base = _ingest(shop.config(), tmp_path / "base")
    more_items = "item_id,title,genres,price\ni4,Soup,hot|meal,0.1\n"
    merged = _append(base, shop, tmp_path / "merged", [*NEW, "u1,i4,5,3100"], more_items)
    shop.write_rows(*ROWS, *NEW, "u1,i4,5,3100")
    shop.write("items.csv", ITEMS + "i4,Soup,hot|meal,0.1\n")
    shop.write("users.csv", "user_id,country\nu1,DE\nu2,FR\nu3,\n")
    whole = _ingest(shop.config(), tmp_path / "whole")
    assert_frame_equal(merged.interactions(), whole.interactions())
    assert_frame_equal(merged.users(), whole.users())
    items, expected = merged.items(), whole.items()
    for frame in (items, expected):
        frame["genres"] = frame["genres"].map(list)
    assert_frame_equal(items, expected)
    assert merged.manifest["counts"] == whole.manifest["counts"]
    assert merged.manifest["cutoffs"] == whole.manifest["cutoffs"]
    assert merged.manifest["schema"] == whole.manifest["schema"]
    assert merged.manifest["reports"]["appended"] == {
        "num_rows": 4, "num_new": 4, "num_duplicates": 0, "num_late": 1, "num_new_items": 1, "num_changed_items": 0,
        "num_new_users": 1, "num_quarantined": 0,
    }  # fmt: skip


def test_rows_that_are_known_are_counted_and_left_out(shop: Shop, tmp_path: Path) -> None:
    base = _ingest(shop.config(), tmp_path / "base")
    first = _append(base, shop, tmp_path / "first", NEW)
    again = _append(first, shop, tmp_path / "again", [*NEW, "u1,i2,1,9000"])
    assert again.manifest["reports"]["appended"]["num_duplicates"] == 3
    assert len(again.interactions()) == len(ROWS) + len(NEW) + 1
    assert fresh_rows(again, first).tolist() == [False] * 7 + [True]
    assert fresh_rows(first, base).sum() == len(NEW)
    assert not fresh_rows(base, base).any()


def test_bad_rows_join_the_quarantine(shop: Shop, tmp_path: Path) -> None:
    shop.write_rows(*ROWS, "u1,i9,4,1000")
    base = _ingest(shop.config(), tmp_path / "base")
    merged = _append(base, shop, tmp_path / "merged", [*NEW, "u1,i8,4,3000", "u1,i1,good,3000"])
    lines = (merged.path / "quarantine.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 3
    assert merged.manifest["quarantined"] == {
        "interactions.csv: unknown item id": 1,
        "new.csv: unknown item id": 1,
        "new.csv: value is not a finite number": 1,
    }


def test_too_many_bad_rows_are_refused(shop: Shop, tmp_path: Path) -> None:
    base = _ingest(shop.config(), tmp_path / "base")
    with pytest.raises(DataError, match=r"new.csv: 1 of 2 rows cannot be used"):
        _append(base, shop, tmp_path / "merged", ["u1,i8,4,3000", NEW[0]], max_bad_share=0.05)


def test_a_file_of_likes_alone_is_fine(shop: Shop, tmp_path: Path) -> None:
    base = _ingest(shop.config(), tmp_path / "base")
    merged = _append(base, shop, tmp_path / "merged", ["u1,i3,5,3000", "u2,i3,4,3000"])
    assert merged.interactions()["label"].tolist()[-2:] == [1, 1]
    assert merged.interactions()["label"].dtype == np.float32


def test_a_changed_item_is_replaced_where_it_stands(shop: Shop, tmp_path: Path) -> None:
    base = _ingest(shop.config(), tmp_path / "base")
    merged = _append(base, shop, tmp_path / "merged", NEW, "item_id,title,genres,price\ni2,Espresso,hot,2.5\n")
    items = merged.items()
    assert items["item_id"].tolist() == ["i1", "i2", "i3"]
    assert items["title"].tolist() == ["Tea", "Espresso", "Ice"]
    assert items["price"].tolist()[:2] == [1.5, 2.5]
    assert np.isnan(items["price"][2])
    assert merged.manifest["reports"]["appended"]["num_changed_items"] == 1


def test_columns_are_named_as_the_source_names_them(shop: Shop, tmp_path: Path) -> None:
    names = {"user_id": "who", "item_id": "what", "value": "stars", "timestamp": "when"}
    shop.write_rows(*ROWS, header="who,what,stars,when")
    shop.write("items.csv", ITEMS.replace("item_id", "what"))
    shop.write("users.csv", "who,country\nu1,DE\nu2,FR\n")
    base = _ingest(shop.config(**names), tmp_path / "base")
    merged = _append(base, shop, tmp_path / "merged", NEW, header="who,what,stars,when\n", **names)
    assert len(merged.interactions()) == len(ROWS) + len(NEW)
    shop.write_rows(*ROWS)
    shop.write("items.csv", ITEMS)
    with pytest.raises(DataError, match="no column 'who'"):
        _append(base, shop, tmp_path / "wrong", NEW, **names)


def test_another_source_takes_the_contracts_names(shop: Shop, tmp_path: Path) -> None:
    base = _ingest(shop.config(), tmp_path / "base")
    config = DataConfig(source=MovieLensSource())
    rows = ["u1,i3,5,1600000000", "u9,i1,4,1600000001"]
    merged = _append(base, shop, tmp_path / "merged", rows, config=config)
    assert len(merged.interactions()) == len(ROWS) + len(rows)


def test_a_dataset_is_a_source_for_an_ordinary_run(shop: Shop, tmp_path: Path) -> None:
    base = _ingest(shop.config(), tmp_path / "base")
    merged = _append(base, shop, tmp_path / "merged", NEW)
    again = _ingest(DataConfig(source=source_of(merged)), tmp_path / "again")
    assert_frame_equal(again.interactions(), merged.interactions())
    assert_frame_equal(again.users(), merged.users())
    assert again.roles == merged.roles
    items, expected = again.items(), merged.items()
    assert [list(cell) for cell in items["genres"]] == [list(cell) for cell in expected["genres"]]
    assert_frame_equal(items.drop(columns="genres"), expected.drop(columns="genres"))
    assert pd.notna(items["price"]).tolist() == [True, True, False]


def test_new_items_go_by_the_rules_of_an_ingest(shop: Shop, tmp_path: Path) -> None:
    """What is broken is set aside and counted; ids are text, whatever the file has."""
    base = _ingest(shop.config(), tmp_path / "base")
    more = "item_id,title,genres,price\n4,Soup,hot|meal,x\n,Nothing,hot,1\n4,Twice,hot,1\n5,Broth,hot\n6,Stew,hot,2\n"
    merged = _append(base, shop, tmp_path / "merged", ["u1,4,5,3100"], more)
    items = merged.items().set_index("item_id")
    assert items.loc[["4", "6"], "title"].tolist() == ["Soup", "Stew"]
    assert merged.manifest["quarantined"] == {
        "new_items.csv: duplicate item_id": 1,
        "new_items.csv: empty id": 1,
        "new_items.csv: price is not a finite number": 1,
        "new_items.csv: wrong number of cells": 1,
    }
    assert merged.manifest["reports"]["appended"]["num_quarantined"] == 4
    assert '"line": 5' in (merged.path / "quarantine.jsonl").read_text("utf-8")
    numbers = pd.DataFrame({"item_id": [7, 8], "title": ["Tart", "Pie"], "genres": [["a"], []], "price": [1, None]})
    numbers.to_parquet(shop.path / "numbers.parquet")
    out = tmp_path / "numbers"
    out.mkdir()
    append(base, shop.config(), shop.write("more.csv", f"{HEADER}u1,7,5,3100\n"), shop.path / "numbers.parquet", out)
    assert Dataset.open(out).items()["item_id"].tolist()[-2:] == ["7", "8"]


def test_new_items_of_which_most_are_broken_are_refused(shop: Shop, tmp_path: Path) -> None:
    base = _ingest(shop.config(), tmp_path / "base")
    more = "item_id,title,genres,price\n,A,,\n,B,,\n4,C,,\n"
    with pytest.raises(DataError, match=r"new_items.csv: 2 of 3 rows cannot be used"):
        _append(base, shop, tmp_path / "merged", ["u1,i1,5,3100"], more, config=shop.config(max_bad_share=0.5))
