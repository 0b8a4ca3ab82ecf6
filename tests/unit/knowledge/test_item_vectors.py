"""Item vectors: fitted on train items alone, written whole, refused when cut short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from lorefuse.atomic import write_json
from lorefuse.config import EmbeddingConfig, KnowledgeConfig
from lorefuse.embedding import embed
from lorefuse.errors import ArtifactError
from lorefuse.knowledge.item_vectors import ItemVectors, build_item_vectors
from tests.unit.knowledge.world import make_dataset

NUM_ITEMS, NUM_TRAIN = 120, 60
CUTOFF = "2020-01-02T00:00:00+00:00"


def build(path: Path, *, seed_of_the_rest: int = 0, with_text: bool = True) -> Path:
    """Build item vectors; `seed_of_the_rest` changes the text vectors of items outside train."""
    dataset = make_dataset(path / "dataset")
    events = pd.DataFrame({"item_id": [f"i{n}" for n in range(NUM_ITEMS)]})
    events.to_parquet(dataset.path / "interactions.parquet")
    parts = pd.DataFrame({"row_id": range(NUM_ITEMS), "split": ["train"] * NUM_TRAIN + ["test"] * NUM_TRAIN})
    for name in ("split", "embeddings", "out"):
        (path / name).mkdir()
    parts.assign(cold=parts["split"] == "test").to_parquet(path / "split" / "split.parquet")
    write_json(path / "split" / "split.json", {"data_cutoff": CUTOFF})
    full = np.random.default_rng(1).normal(size=(NUM_ITEMS, 24)).astype(np.float32)
    full[NUM_TRAIN:] += np.random.default_rng(seed_of_the_rest).normal(size=(NUM_TRAIN, 24))
    has_text = np.arange(NUM_ITEMS) % 10 != 0 if with_text else np.zeros(NUM_ITEMS, dtype=bool)
    save_file({"full": full, "has_text": has_text}, str(path / "embeddings" / embed.ARRAYS_FILE))
    embedding, knowledge = EmbeddingConfig(reduce_dim=6), KnowledgeConfig(graph_dim=8)
    facts = build_item_vectors(dataset, path / "split", path / "embeddings", embedding, knowledge, path / "out")
    assert facts["data_cutoff"] == CUTOFF
    return path / "out"


def test_every_item_has_a_row_and_zeros_where_nothing_is_known(tmp_path: Path) -> None:
    vectors = ItemVectors.load(build(tmp_path))
    assert vectors.text.shape == (NUM_ITEMS, 6)
    assert vectors.graph.shape == (NUM_ITEMS, 8)
    assert vectors.text.dtype == vectors.graph.dtype == np.float32
    assert not vectors.text[~vectors.has_text].any()
    assert not vectors.graph[~vectors.has_graph].any()
    assert vectors.facts["text_dim"] == 6
    assert vectors.facts["graph"]["used"]


def test_items_outside_train_do_not_move_the_others(tmp_path: Path) -> None:
    one = ItemVectors.load(build(tmp_path / "one", seed_of_the_rest=0))
    other = ItemVectors.load(build(tmp_path / "other", seed_of_the_rest=9))
    np.testing.assert_array_equal(one.text[:NUM_TRAIN], other.text[:NUM_TRAIN])
    assert not np.allclose(one.text[NUM_TRAIN:], other.text[NUM_TRAIN:])


def test_a_catalogue_without_text_has_no_text_columns(tmp_path: Path) -> None:
    assert ItemVectors.load(build(tmp_path, with_text=False)).text.shape == (NUM_ITEMS, 0)


@pytest.mark.parametrize("name", ["item_vectors.safetensors", "item_vectors.json"])
def test_a_folder_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    path = build(tmp_path)
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="no whole item vectors"):
        ItemVectors.load(path)
