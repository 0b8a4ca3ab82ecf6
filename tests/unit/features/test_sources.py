"""Sources of the views: written in parts or at once, they are the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lorefuse.data.split import load_split
from lorefuse.features import causal, sources
from lorefuse.features.build import build_feature_data, history_of
from lorefuse.features.interactions import InteractionRows
from lorefuse.features.rows import item_numeric_now, item_numeric_rows, user_interest_rows, user_numeric_rows
from tests.helpers.feature_world import CONFIG, World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world whose snapshots also hold texts about the users."""
    plain = make_world(tmp_path)
    history = history_of(InteractionRows.of(plain.dataset, load_split(plain.split_path)[0]), "binary")
    moments = history.user_order.snapshot_rows(history.is_train)[::3]
    written = np.random.default_rng(5).standard_normal((len(moments), 4)).astype(np.float32)
    vectors = dataclasses.replace(plain.vectors, written=written, written_row=moments)
    return dataclasses.replace(plain, vectors=vectors)


def test_parts_make_the_same_files(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str) -> Path:
        path = tmp_path / name
        path.mkdir()
        build_feature_data(world.dataset, world.split_path, world.vectors, CONFIG, path)
        return path

    at_once = build("at_once")
    monkeypatch.setattr(causal, "PART_ROWS", 40)
    monkeypatch.setattr(sources, "PART_ROWS", 40)
    in_parts = build("in_parts")
    names = sorted(path.relative_to(at_once) for path in at_once.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(in_parts) for path in in_parts.rglob("*") if path.is_file())
    for name in names:
        if name.suffix != ".parquet":
            assert (in_parts / name).read_bytes() == (at_once / name).read_bytes(), name
            continue
        one, other = pq.read_table(at_once / name), pq.read_table(in_parts / name)
        assert other.equals(one, check_metadata=True), name
    assert pq.ParquetFile(at_once / "sources" / "user_interest.parquet").num_row_groups == 1
    for view in ("user_stats", "user_interest", "user_history", "item_stats"):
        assert pq.ParquetFile(in_parts / "sources" / f"{view}.parquet").num_row_groups > 3, view


def test_parts_give_rows_in_memory_the_same_bits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorefuse.features.prior import ItemPrior

    rows, prior = (
        InteractionRows.of(world.dataset, load_split(world.split_path)[0]),
        ItemPrior.load(world.feature_data_path),
    )

    def features() -> list[bytes]:
        history = history_of(rows, "binary")
        made = (
            user_numeric_rows(history),
            item_numeric_rows(history, prior),
            item_numeric_now(history, prior),
            user_interest_rows(history, world.vectors.knowledge, 2.0),
        )
        return [array.tobytes() for array in made]

    at_once = features()
    monkeypatch.setattr(causal, "PART_ROWS", 40)
    assert features() == at_once
