"""Ingest of one's own files: what is kept, what goes to quarantine and why, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lorefuse.config import DataConfig, LabelConfig
from lorefuse.core.errors import ConfigError, DataError
from lorefuse.core.settings import settings
from lorefuse.core.step_cache import reuse_or_build
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from tests.unit.data.conftest import ROWS, Shop


def run(config: DataConfig, tmp_path: Path) -> Dataset:
    out_path = tmp_path / "dataset"
    out_path.mkdir()
    ingest(config, out_path)
    return Dataset.open(out_path)


def quarantine(dataset: Dataset) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (dataset.path / "quarantine.jsonl").read_text("utf-8").splitlines()]


def reasons(dataset: Dataset) -> list[tuple[str, int, str]]:
    return [(row["file"], row["line"], row["reason"]) for row in quarantine(dataset)]


def refused(config: DataConfig, tmp_path: Path) -> DataError:
    """Run as the pipeline does; return the error, and make sure that nothing half-written is left."""

    def build(out_path: Path) -> dict[str, Any]:
        return ingest(config, out_path)

    with pytest.raises((DataError, ConfigError)) as caught:
        reuse_or_build("ingest", config={}, inputs={}, rooms=("data",), build=build)
    steps_path = settings().cache_path / "steps" / "ingest"
    assert list(steps_path.iterdir()) == []
    assert caught.value.exit_code == 2
    assert caught.value.expected
    assert caught.value.got
    assert caught.value.fix
    return caught.value


def test_good_files_become_the_dataset_of_the_contract(shop: Shop, tmp_path: Path) -> None:
    dataset = run(shop.config(), tmp_path)
    events = dataset.interactions()
    assert events["user_id"].tolist() == ["u2", "u1", "u2", "u1"]
    assert events["item_id"].tolist() == ["i3", "i1", "i1", "i2"]
    assert events["row_id"].tolist() == [0, 1, 2, 3]
    assert events["label"].tolist() == [0, 1, 1, 0]
    assert str(events["event_timestamp"].dtype) == "datetime64[us, UTC]"
    assert events["value"].dtype == np.float32
    items = dataset.items()
    assert [list(cell) for cell in items["genres"]] == [["hot", "drink"], ["hot"], ["cold"]]
    assert items["price"].dtype == np.float32
    assert np.isnan(items["price"].iloc[2])
    assert dataset.users()["country"].tolist() == ["DE", "FR"]
    assert dataset.roles.item_title == "title"
    assert dataset.manifest["counts"] == {"interactions": 4, "items": 3, "users": 2}
    assert dataset.manifest["quarantined"] == {}
    assert dataset.triples() is None


def test_the_same_files_give_the_same_bytes(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first, second = run(shop.config(), tmp_path), run(shop.config(), tmp_path / "again")
    assert first.manifest == second.manifest


def test_rows_out_of_order_are_sorted_and_counted(shop: Shop, tmp_path: Path) -> None:
    assert run(shop.config(), tmp_path).manifest["reports"] == {"num_timestamps_out_of_order": 2}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("u1,i3,good,3000", "value is not a finite number"),
        ("u1,i3,NaN,3000", "value is not a finite number"),
        ("u1,i3,inf,3000", "value is not a finite number"),
        ("u1,i3,-Infinity,3000", "value is not a finite number"),
        ("u1,i3,1e39,3000", "value is not a finite number"),
        ("u1,i3,,3000", "value is not a finite number"),
        ("u1,i3,4,yesterday", "timestamp cannot be read"),
        ("u1,i3,4,inf", "timestamp cannot be read"),
        ("u1,i3,4,", "timestamp cannot be read"),
        ("u1,i3,4,32503680000", "timestamp lies in the future"),
        ("u1,i3,4,-5", "timestamp before 1970"),
        ("u1,nowhere,4,3000", "unknown item id"),
        ("nobody,i3,4,3000", "unknown user id"),
        (",i3,4,3000", "empty id"),
        ("nan,i3,4,3000", "empty id"),
        ("u1, ,4,3000", "empty id"),
        ("u1,i1,5,1000", "duplicate interaction"),
        ("u1,i1,1,1000", "duplicate interaction: the one with the highest value stays"),
        ("u1,i3,4", "wrong number of cells: expected 4, got 3"),
        ("u1,i3,4,3000,5", "wrong number of cells: expected 4, got 5"),
        ('u1,"i3,4,3000', "broken quotes: unexpected end of data"),
    ],
)
def test_a_bad_row_goes_to_quarantine_with_its_line(shop: Shop, tmp_path: Path, row: str, reason: str) -> None:
    shop.write_rows(*ROWS, row)
    dataset = run(shop.config(), tmp_path)
    assert reasons(dataset) == [("interactions.csv", 6, reason)]
    assert dataset.manifest["quarantined"] == {f"interactions.csv: {reason.partition(':')[0]}": 1}
    assert len(dataset.interactions()) == len(ROWS)


def test_broken_utf8_costs_its_line_alone(shop: Shop, tmp_path: Path) -> None:
    shop.write("items.csv", b"item_id,title,genres,price\ni1,T\xe9,hot,1\ni2,Th\xc3\xa9,hot,2\ni3,Ice,cold,3\n")
    shop.write_rows("u1,i2,5,1", "u2,i3,1,2", "u1,i1,4,3")
    dataset = run(shop.config(), tmp_path)
    assert reasons(dataset) == [("interactions.csv", 4, "unknown item id"), ("items.csv", 2, "broken UTF-8")]
    assert dataset.items()["title"].tolist() == ["Thé", "Ice"]


def test_the_quarantine_shows_rows_as_they_came(shop: Shop, tmp_path: Path) -> None:
    shop.write_rows(*ROWS, "u1,i3,good,3000")
    assert quarantine(run(shop.config(), tmp_path))[0]["row"] == {
        "user_id": "u1",
        "item_id": "i3",
        "event_timestamp": "3000",
        "value": "good",
    }


def test_a_bad_row_does_not_take_its_good_twin_with_it(shop: Shop, tmp_path: Path) -> None:
    shop.write_rows("u1,i3,NaN,3000", "u1,i3,4,3000", "u1,i3,5,3000", *ROWS)
    dataset = run(shop.config(), tmp_path)
    assert [(line, reason) for _, line, reason in reasons(dataset)] == [
        (2, "value is not a finite number"),
        (3, "duplicate interaction: the one with the highest value stays"),
    ]
    assert dataset.interactions().query("item_id == 'i3' and user_id == 'u1'")["value"].tolist() == [5]


def test_bad_items_and_users_go_to_quarantine(shop: Shop, tmp_path: Path) -> None:
    shop.write(
        "items.csv",
        "item_id,title,genres,price\ni1,Tea,hot,1\ni2,Coffee,,2\ni3,Ice,,\ni1,Tee,,1\n,No,,1\ni5,Bad,,x\ni6,B,,inf\n",
    )
    shop.write("users.csv", "user_id,country\nu1,DE\nu2,FR\nu2,IT\n")
    dataset = run(shop.config(), tmp_path)
    assert [(file, line, reason.partition(":")[0]) for file, line, reason in reasons(dataset)] == [
        ("items.csv", 5, "duplicate item_id"),
        ("items.csv", 6, "empty id"),
        ("items.csv", 7, "price is not a finite number"),
        ("items.csv", 8, "price is not a finite number"),
        ("users.csv", 4, "duplicate user_id"),
    ]
    # A number is optional: what is none costs its cell, not its item.
    assert dataset.items()["item_id"].tolist() == ["i1", "i2", "i3", "i5", "i6"]


def test_without_a_users_file_users_come_from_the_interactions(shop: Shop, tmp_path: Path) -> None:
    dataset = run(shop.config(users_path=None, user_categories=()), tmp_path)
    assert dataset.users()["user_id"].tolist() == ["u1", "u2"]


def test_a_graph_of_ones_own_is_cleaned_too(shop: Shop, tmp_path: Path) -> None:
    triples = pd.DataFrame({"head": [1.0, 1.0, 1.0, None], "relation": ["r"] * 4, "tail": [2.0, 3.0, 3.0, 2.0]})
    triples.to_parquet(shop.path / "triples.parquet")
    shop.write("links.csv", "item_id,entity_id\ni1,1\nnowhere,2\n")
    graph = {"triples_path": shop.path / "triples.parquet", "links_path": shop.path / "links.csv"}
    dataset = run(shop.config(**graph), tmp_path)
    assert reasons(dataset) == [
        ("links.csv", 3, "unknown item_id"),
        ("triples.parquet", 3, "duplicate row"),
        ("triples.parquet", 4, "empty id"),
    ]
    found = dataset.triples()
    assert found is not None
    assert found.to_numpy().tolist() == [["1", "r", "2"], ["1", "r", "3"]]


def test_parquet_is_read_like_csv(shop: Shop, tmp_path: Path) -> None:
    times = pd.to_datetime([1000, 2000, 1500, 500], unit="s")
    events = pd.DataFrame({"user_id": [1.0, 1.0, 2.0, None], "item_id": [7, 8, 7, 9], "rating": [5, 3, 4, 2]})
    events.assign(timestamp=times).to_parquet(shop.path / "events.parquet")
    items = pd.DataFrame(
        {"title": ["Tea", None, "Ice"], "genres": [["hot", "dr|nk"], None, []], "year": [1990.0, None, 2]}
    )
    items.set_index(pd.Index([7, 8, 9], name="item_id")).to_parquet(shop.path / "items.parquet")
    dataset = run(
        shop.config(
            interactions_path=shop.path / "events.parquet",
            items_path=shop.path / "items.parquet",
            users_path=None,
            user_categories=(),
            item_numerics=(),
            item_categories=("year",),
        ),
        tmp_path,
    )
    assert dataset.interactions()[["user_id", "item_id"]].to_numpy().tolist() == [["1", "7"], ["2", "7"], ["1", "8"]]
    assert reasons(dataset) == [("events.parquet", 4, "empty id")]
    assert [list(cell) for cell in dataset.items()["genres"]] == [["hot", "dr|nk"], [], []]
    assert dataset.items()["year"].tolist() == ["1990", "", "2"]
    assert dataset.items()["title"].tolist() == ["Tea", "", "Ice"]


@pytest.mark.parametrize("label", [LabelConfig(kind="regression"), LabelConfig(threshold=3)])
def test_labels_follow_the_config(shop: Shop, tmp_path: Path, label: LabelConfig) -> None:
    dataset = run(shop.config().model_copy(update={"label": label}), tmp_path)
    expected = [2, 5, 4, 3] if label.kind == "regression" else [0, 1, 1, 1]
    assert dataset.interactions()["label"].tolist() == expected


def test_a_missing_column_is_named_with_the_nearest_one(shop: Shop, tmp_path: Path) -> None:
    shop.write_rows(*ROWS, header="user_id,item,rating,timestamp")
    error = refused(shop.config(), tmp_path)
    assert "interactions.csv has no column 'item_id'" in str(error)
    assert "user_id, item, rating, timestamp" in str(error)
    assert "did you mean 'item'?" in str(error)


def test_a_wrong_delimiter_is_suspected(shop: Shop, tmp_path: Path) -> None:
    shop.write("interactions.csv", "user_id:item_id:rating:timestamp\nu1:i1:5:1000\n")
    assert "data.source.delimiter" in (refused(shop.config(), tmp_path).fix or "")


@pytest.mark.parametrize("name", ["interactions.csv", "items.csv", "users.csv"])
@pytest.mark.parametrize("content", [b"", b"\n\n", b"user_id,item_id,title,genres,price,rating,timestamp,country\n"])
def test_an_empty_file_is_refused(shop: Shop, tmp_path: Path, name: str, content: bytes) -> None:
    shop.write(name, content)
    assert name in str(refused(shop.config(), tmp_path))


def test_a_missing_file_is_refused(shop: Shop, tmp_path: Path) -> None:
    (shop.path / "items.csv").unlink()
    assert "There is no file" in str(refused(shop.config(), tmp_path))
    assert "a folder" in str(refused(shop.config(items_path=shop.path), tmp_path))


@pytest.mark.parametrize("content", [b"PAR1 not really", b"\x00" * 64])
def test_a_damaged_parquet_file_is_refused(shop: Shop, tmp_path: Path, content: bytes) -> None:
    path = shop.write("items.parquet", content)
    assert "whole Parquet file" in (refused(shop.config(items_path=path), tmp_path).expected or "")


def test_a_file_in_another_encoding_is_refused_with_its_reason(shop: Shop, tmp_path: Path) -> None:
    shop.write("users.csv", "user_id,country\nü1,DE\nü2,FR\n".encode("latin-1"))
    assert "broken UTF-8 (2)" in (refused(shop.config(), tmp_path).got or "")


def test_too_many_bad_rows_are_refused_and_can_be_looked_at(shop: Shop, tmp_path: Path) -> None:
    shop.write_rows(*ROWS, "u1,i3,4,x", "u1,i3,4,y", "u1,nowhere,4,1")
    error = refused(shop.config(max_bad_share=0.4), tmp_path)
    assert "3 of 7 rows" in str(error)
    assert error.got == "timestamp cannot be read (2); unknown item id (1)"
    kept = settings().home_path / "quarantine.jsonl"
    assert str(kept) in (error.fix or "")
    assert [json.loads(line)["line"] for line in kept.read_text("utf-8").splitlines()] == [6, 7, 8]


def test_a_share_of_exactly_the_bound_is_allowed(shop: Shop, tmp_path: Path) -> None:
    shop.write_rows(*ROWS, "u1,i3,4,x")
    assert len(run(shop.config(max_bad_share=0.2), tmp_path).interactions()) == 4


def test_labels_that_are_all_equal_are_refused(shop: Shop, tmp_path: Path) -> None:
    error = refused(shop.config(value=None), tmp_path)
    assert "data.label.threshold = 4" in (error.expected or "")
    assert error.got == "values from 1 to 1"


def test_a_mapping_that_contradicts_itself_is_refused(shop: Shop, tmp_path: Path) -> None:
    assert "users_path" in str(refused(shop.config(users_path=None), tmp_path))
    assert "links_path" in str(refused(shop.config(triples_path=shop.path / "items.csv"), tmp_path))


def test_files_of_one_name_are_kept_apart(shop: Shop, tmp_path: Path) -> None:
    (shop.path / "a").mkdir()
    (shop.path / "b").mkdir()
    items = (shop.path / "items.csv").rename(shop.path / "a" / "data.csv")
    events = (shop.path / "interactions.csv").rename(shop.path / "b" / "data.csv")
    events.write_text(events.read_text() + "u1,nowhere,4,9\n")
    dataset = run(shop.config(items_path=items, interactions_path=events), tmp_path)
    assert reasons(dataset) == [(f"interactions: {events}", 6, "unknown item id")]
