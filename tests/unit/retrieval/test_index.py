"""Towers as arrays, and the index of their item vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lorefuse.core.errors import ArtifactError
from lorefuse.retrieval.index import add_items, build_index, enough_probes, load_index, measure_recall, save_index
from lorefuse.retrieval.vectors import unit

NUM_ITEMS, DIM = 4000, 16


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, DIM))
    return (centres[rng.integers(0, 60, NUM_ITEMS)] + 0.5 * rng.normal(size=(NUM_ITEMS, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def users(vectors: np.ndarray) -> np.ndarray:
    return unit(vectors[::80] + 0.1)


def test_more_probes_find_more_and_all_find_all(vectors: np.ndarray, users: np.ndarray) -> None:
    index = build_index(vectors, None)
    assert (index.ntotal, index.nlist) == (NUM_ITEMS, 102)  # 128 would leave fewer than 39 items to a cell
    few, more, every = (measure_recall(index, vectors, users, 200, probes) for probes in (2, 16, 102))
    assert few["recall_at_200"] < more["recall_at_200"] < every["recall_at_200"]
    assert every["recall_at_200"] > 0.999
    whole = build_index(vectors, None, min_recall=1)
    figures = measure_recall(whole, vectors, users, 200, 102)
    assert figures["recall_at_200"] == figures["recall_at_100"] == 1, "where more is asked vectors keep their 32 bits"
    assert more["recall_at_100"] > 0.9
    probes = enough_probes(index, vectors, users, 200, 0.9)
    assert measure_recall(index, vectors, users, 200, probes)["recall_at_200"] >= 0.9
    assert measure_recall(index, vectors, users, 200, probes // 2)["recall_at_200"] < 0.9


def test_the_same_vectors_give_the_same_bytes(vectors: np.ndarray, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_index(build_index(vectors, 32), tmp_path / name)
    first, second = (next((tmp_path / name).iterdir()).read_bytes() for name in ("a", "b"))
    assert first == second


def test_items_join_at_the_end(vectors: np.ndarray, tmp_path: Path) -> None:
    save_index(build_index(vectors[:-1], 32), tmp_path)
    index = load_index(tmp_path)
    add_items(index, vectors[-1:])
    assert index.ntotal == NUM_ITEMS
    assert index.search(unit(vectors[-1:]), 1)[1].tolist() == [[NUM_ITEMS - 1]]


@pytest.mark.parametrize("content", [None, b"", b"not an index", b"IwFl" + b"\0" * 40])
def test_what_is_no_index_is_said(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "items.faiss").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"items\.faiss is not a whole index"):
        load_index(tmp_path)
