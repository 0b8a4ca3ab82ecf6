"""Item vectors: fitted on train items alone, written whole, refused when cut short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from lorefuse.config import EmbeddingConfig, KnowledgeConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError, LeakError
from lorefuse.embedding import dtype_choice, embed
from lorefuse.knowledge.item_vectors import build_item_vectors
from lorefuse.training_set.vectors import ItemVectors
from tests.helpers.graph_world import make_dataset

NUM_ITEMS, NUM_TRAIN = 120, 60
CUTOFF = "2020-01-02T00:00:00+00:00"


def build(
    path: Path,
    *,
    seed_of_the_rest: int = 0,
    with_text: bool = True,
    embedding: EmbeddingConfig | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    seen_until: str | None = None,
) -> Path:
    """Build item vectors; `seed_of_the_rest` changes the text vectors of items outside train."""
    dataset = make_dataset(path / "dataset")
    events = pd.DataFrame({"item_id": [f"i{n}" for n in range(NUM_ITEMS)]}).assign(
        user_id=[f"u{n % 7}" for n in range(NUM_ITEMS)],
        label=np.float32(1),
        event_timestamp=pd.Timestamp("2020-01-01", tz="UTC"),
    )
    events.to_parquet(dataset.path / "interactions.parquet")
    parts = pd.DataFrame({"row_id": range(NUM_ITEMS), "split": ["train"] * NUM_TRAIN + ["test"] * NUM_TRAIN})
    for name in ("split", "embeddings", "out"):
        (path / name).mkdir()
    parts.assign(cold=parts["split"] == "test").to_parquet(path / "split" / "split.parquet")
    write_json(path / "split" / "split.json", {"data_cutoff": CUTOFF})
    full = np.random.default_rng(1).normal(size=(NUM_ITEMS, 24)).astype(np.float32)
    full[NUM_TRAIN:] += np.random.default_rng(seed_of_the_rest).normal(size=(NUM_TRAIN, 24))
    has_text = np.arange(NUM_ITEMS) % 10 != 0 if with_text else np.zeros(NUM_ITEMS, dtype=bool)
    content = {"full": full, "has_text": has_text} | (arrays or {})
    save_file(content, str(path / "embeddings" / embed.ARRAYS_FILE))
    write_json(path / "embeddings" / dtype_choice.FACTS_FILE, {"data_cutoff": seen_until})
    embedding, knowledge = embedding or EmbeddingConfig(reduce_dim=6), KnowledgeConfig(graph_dim=8)
    facts = build_item_vectors(dataset, path / "split", path / "embeddings", embedding, knowledge, path / "out")
    assert facts["data_cutoff"] == CUTOFF
    return path / "out"


def test_every_item_has_a_row_and_zeros_where_nothing_is_known(tmp_path: Path) -> None:
    vectors = ItemVectors.load(build(tmp_path))
    assert vectors.knowledge["text"].shape == (NUM_ITEMS, 6)
    assert vectors.knowledge["graph"].shape == (NUM_ITEMS, 8)
    assert vectors.knowledge["text"].dtype == vectors.knowledge["graph"].dtype == np.float32
    assert not vectors.knowledge["text"][::10].any()
    assert not vectors.knowledge["graph"][-1].any()
    assert vectors.facts["dims"] == {"text": 6, "graph": 8}
    assert vectors.facts["graph"]["used"]


def test_items_outside_train_do_not_move_the_others(tmp_path: Path) -> None:
    one = ItemVectors.load(build(tmp_path / "one", seed_of_the_rest=0))
    other = ItemVectors.load(build(tmp_path / "other", seed_of_the_rest=9))
    np.testing.assert_array_equal(one.knowledge["text"][:NUM_TRAIN], other.knowledge["text"][:NUM_TRAIN])
    assert not np.allclose(one.knowledge["text"][NUM_TRAIN:], other.knowledge["text"][NUM_TRAIN:])


def test_a_catalogue_without_text_has_no_text_columns(tmp_path: Path) -> None:
    assert list(ItemVectors.load(build(tmp_path, with_text=False)).knowledge) == ["graph"]


@pytest.mark.parametrize("name", ["item_vectors.safetensors", "item_vectors.json"])
def test_a_folder_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    path = build(tmp_path)
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="no complete item vectors"):
        ItemVectors.load(path)


def test_widths_of_several_facets(tmp_path: Path) -> None:
    facets = [{"name": "a", "columns": ["title"], "reduce_dim": 4}, {"name": "b", "columns": ["genres"]}]
    embedding = EmbeddingConfig.model_validate({"reduce_dim": 3, "facets": facets})
    full = np.random.default_rng(0).normal(size=(NUM_ITEMS, 24)).astype(np.float32)
    full[::2, 12:] = 0
    has_facet = np.stack([full[:, :12].any(1), full[:, 12:].any(1)], axis=1)
    arrays = {"full": full, "has_text": np.ones(NUM_ITEMS, dtype=bool), "has_facet": has_facet}
    vectors = ItemVectors.load(build(tmp_path, embedding=embedding, arrays=arrays))
    assert vectors.facts["text_facets"] == {"a": 4, "b": 3}
    assert vectors.knowledge["text"].shape == (NUM_ITEMS, 7)
    np.testing.assert_array_equal(vectors.knowledge["text"][:, 4:].any(1), has_facet[:, 1])


def test_the_supervised_reducer_reads_train_rows(tmp_path: Path) -> None:
    embedding = EmbeddingConfig(reduce_dim=3, reducer="supervised")
    one, other = (
        ItemVectors.load(build(tmp_path / str(seed), seed_of_the_rest=seed, embedding=embedding)) for seed in (0, 9)
    )
    assert one.knowledge["text"].shape == (NUM_ITEMS, 3)
    np.testing.assert_array_equal(one.knowledge["text"][:NUM_TRAIN], other.knowledge["text"][:NUM_TRAIN])


@pytest.mark.parametrize(
    ("seen_until", "row", "refused"),
    [
        ("2020-01-03T00:00:00+00:00", 0, "later data"),
        (CUTOFF, NUM_TRAIN, "cold in this split"),
        (CUTOFF, NUM_TRAIN - 1, ""),
    ],
)
def test_a_fine_tuned_encoder_must_fit_the_split(tmp_path: Path, seen_until: str, row: int, refused: str) -> None:
    fitted = np.arange(NUM_ITEMS) == row
    if refused:
        with pytest.raises(LeakError, match=refused):
            build(tmp_path, arrays={"fitted": fitted}, seen_until=seen_until)
    else:
        build(tmp_path, arrays={"fitted": fitted}, seen_until=seen_until)
