"""Vectors of one's own: read with care, reduced on train items, and the same way for items that come later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lorefuse.config import KnowledgeConfig
from lorefuse.config.load import load_config, parse_config
from lorefuse.core.errors import ArtifactError, ConfigError, DataError
from lorefuse.knowledge.own_vectors import more_items, own_blocks, vectors_of

ITEMS = [f"i{n}" for n in range(40)]
TRAIN = np.arange(40) < 30
VECTORS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def write(path: Path, ids: Any = ITEMS, vectors: Any = VECTORS) -> Path:
    if path.suffix == ".npz":
        np.savez(path, item_id=np.asarray(ids), vector=np.asarray(vectors))
    else:
        pd.DataFrame({"item_id": ids, "vector": [list(v) for v in vectors]}).to_parquet(path)
    return path


def config(path: Path, **keys: Any) -> KnowledgeConfig:
    return KnowledgeConfig.model_validate({"item_vectors": {"image": {"path": str(path), **keys}}})


@pytest.mark.parametrize("name", ["image.parquet", "image.npz"])
def test_items_get_their_own_vector_in_any_order(tmp_path: Path, name: str) -> None:
    order = np.random.default_rng(1).permutation(40)[:35]
    path = write(tmp_path / name, [*(ITEMS[n] for n in order), "elsewhere"], [*VECTORS[order], np.ones(6)])
    vectors, known, num_unknown = vectors_of(path, ITEMS)
    assert known.sum() == 35
    assert num_unknown == 1
    np.testing.assert_allclose(vectors[known], VECTORS[np.sort(order)], rtol=1e-6)
    assert not vectors[~known].any()


def test_whole_numbers_are_the_ids_that_ingest_makes_of_them(tmp_path: Path) -> None:
    for name in ("image.parquet", "image.npz"):
        _, known, _ = vectors_of(write(tmp_path / name, list(range(40))), [str(n) for n in range(40)])
        assert known.all()


@pytest.mark.parametrize("reducer", ["pca", "whitening", "random_projection", "none"])
def test_the_map_is_fitted_on_train_items_and_kept_for_later_ones(tmp_path: Path, reducer: str) -> None:
    path = write(tmp_path / "image.parquet", ITEMS[:35], VECTORS[:35])
    blocks, report = own_blocks(ITEMS[:35], TRAIN[:35], config(path, reduce_dim=4, reducer=reducer), tmp_path)
    width = 6 if reducer == "none" else 4
    assert blocks["image"].shape == (35, width)
    assert report == {"image": {"num_items": 35, "num_unknown_ids": 0}}
    moved = VECTORS.copy()
    moved[30:35] += 9
    (tmp_path / "other").mkdir()
    other, _ = own_blocks(
        ITEMS[:35],
        TRAIN[:35],
        config(write(tmp_path / "moved.npz", ITEMS[:35], moved[:35]), reduce_dim=4, reducer=reducer),
        tmp_path / "other",
    )
    np.testing.assert_array_equal(other["image"][:30], blocks["image"][:30])
    write(path, ITEMS, VECTORS)  # the file has grown
    later = more_items([*ITEMS[33:], "unheard of"], config(path, reduce_dim=4, reducer=reducer), tmp_path)["image"]
    np.testing.assert_allclose(later[:2], blocks["image"][33:], atol=1e-6)
    assert later[2:7].any(axis=1).all()
    assert not later[7].any()


def test_counts_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "image.parquet", [*ITEMS[:38], "x"], VECTORS[:39])
    with caplog.at_level(logging.WARNING):
        own_blocks(ITEMS, TRAIN, config(path, reduce_dim=2), tmp_path)
    assert "2 items have no vector; 1 ids are of no item" in caplog.text


def _ragged(path: Path) -> None:
    write(path, ITEMS, [[1.0] * (3 + n % 2) for n in range(40)])


def _with_nan(path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[[4, 9], 2] = [np.nan, np.inf]
    write(path, ITEMS, vectors)


BROKEN: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "not there": ("a.parquet", lambda path: None, "cannot be read"),
    "not Parquet": ("a.parquet", lambda path: path.write_text("no"), "cannot be read"),
    "not npz": ("a.npz", lambda path: path.write_bytes(b"PK no"), "cannot be read"),
    "no vectors": ("a.parquet", lambda path: pd.DataFrame({"item_id": ITEMS}).to_parquet(path), "lacks 'vector'"),
    "no ids": ("a.npz", lambda path: np.savez(path, vector=VECTORS), "lacks 'item_id is not a file"),
    "empty": ("a.npz", lambda path: write(path, np.zeros(0, "U1"), np.zeros((0, 3))), "is empty"),
    "ragged": ("a.parquet", _ragged, "not of one width"),
    "text": ("a.parquet", lambda path: write(path, ITEMS, [["a", "b"]] * 40), "cannot be read"),
    "NaN": ("a.parquet", _with_nan, "is NaN"),
    "twice": ("a.parquet", lambda path: write(path, [*ITEMS[:39], "i0"]), "repeats an id"),
    "no id": ("a.parquet", lambda path: write(path, [*ITEMS[:39], None]), "has no id"),
    "other ids": ("a.npz", lambda path: write(path, [f"x{n}" for n in range(40)]), "No item has a vector"),
    "objects": ("a.npz", lambda path: np.savez(path, item_id=np.array(ITEMS, object), vector=VECTORS), "cannot be"),
    "lengths": ("a.npz", lambda path: write(path, ITEMS[:3]), "cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, case: str) -> None:
    name, make, message = BROKEN[case]
    make(tmp_path / name)
    with pytest.raises(DataError, match=message):
        own_blocks(ITEMS, TRAIN, config(tmp_path / name, reduce_dim=2), tmp_path)


def test_more_dimensions_than_train_items_differ_in_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "image.npz", ITEMS, np.ones((40, 3), np.float32))
    with pytest.raises(ConfigError, match=r"item_vectors.image.reduce_dim 2 is too large"):
        own_blocks(ITEMS, TRAIN, config(path, reduce_dim=2), tmp_path)


def test_later_vectors_of_another_width_and_maps_that_are_gone_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "image.npz")
    own_blocks(ITEMS, TRAIN, config(path, reduce_dim=2), tmp_path)
    write(path, ITEMS, VECTORS[:, :5])
    with pytest.raises(DataError, match=r"not those that the model was trained with[\s\S]*width 6[\s\S]*width 5"):
        more_items(ITEMS, config(path), tmp_path)
    (tmp_path / "own_reducers.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match="not complete"):
        more_items(ITEMS, config(path), tmp_path)


def test_the_preset_names_them_by_path_or_section(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(
        "knowledge: {item_vectors: {image: posters.parquet, sound: {path: sub/a.npz, reduce_dim: 8}}}\n"
        "study: {arms: [real, image_only]}\ncandidates: {views: [ease, sound_content]}\n"
        "model: {fusion_dims: {image: 8}}\n",
        "utf-8",
    )
    loaded = load_config(tmp_path / "shop.yaml")
    own = loaded.knowledge.item_vectors
    assert {name: entry.path for name, entry in own.items()} == {
        "image": tmp_path / "posters.parquet",
        "sound": tmp_path / "sub/a.npz",
    }
    assert own["sound"].reduce_dim == 8
    assert loaded.knowledge_names == ("text", "graph", "image", "sound")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"knowledge": {"item_vectors": {"text": "a.npz"}}}, "cannot be called text"),
        ({"knowledge": {"item_vectors": {"numeric": "a.npz"}}}, "cannot be called numeric"),
        ({"knowledge": {"item_vectors": {"Two Words": "a.npz"}}}, "item_vectors"),
        ({"knowledge": {"item_vectors": {"image": {"reduce_dim": 3}}}}, "path"),
        ({"knowledge": {"item_vectors": ["a.npz"]}}, "item_vectors"),
        (
            {
                "knowledge": {"item_vectors": {"image": "a.npz"}},
                "data": {
                    "source": {
                        "kind": "files",
                        "interactions_path": "a",
                        "items_path": "b",
                        "item_categories": ["liked_image"],
                    }
                },
            },
            "needs the name 'liked_image', which is a column's",
        ),
    ],
)
def test_names_that_cannot_be_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(content)
