"""Reviews as text: of train rows alone, on the item's side and, row by row, on the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lorefuse.config import EmbeddingConfig
from lorefuse.core.errors import ConfigError
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split
from lorefuse.embedding.embed import embed_items, embed_new_item, embed_texts
from lorefuse.embedding.reduce import Reducer
from lorefuse.knowledge.item_vectors import build_item_vectors
from lorefuse.knowledge.profile import REVIEWED, profile_texts
from lorefuse.knowledge.reviews import item_review_texts, train_reviews
from lorefuse.training_set.vectors import ItemVectors
from tests.helpers.embedding_world import make_world
from tests.helpers.encoders import save_encoder

ROWS = [  # user, item, day, label, part; the text of row n is "w<n> w<n + 1>"
    ("u0", "i0", 0, 1, "train"),
    ("u0", "i1", 1, 0, "train"),
    ("u1", "i0", 2, 1, "train"),
    ("u1", "i2", 3, 1, "train"),
    ("u2", "i0", 4, 1, "train"),
    ("u0", "i2", 8, 1, "validation"),
    ("u1", "i3", 9, 0, "test"),
    ("u2", "i0", 9, 1, "test"),
]


@pytest.fixture
def world(tmp_path: Path) -> tuple[Dataset, Path]:
    _, split_path = make_world(tmp_path, ROWS, num_items=4)
    path = tmp_path / "dataset" / "interactions.parquet"
    frame = pd.read_parquet(path)
    frame["review_text"] = [f"w{n} w{n + 1}" for n in range(len(frame))]
    frame.loc[3, "review_text"] = ""
    frame.to_parquet(path, index=False)
    manifest = tmp_path / "dataset" / "manifest.json"
    from lorefuse.core.atomic import sha256_file, write_json

    roles = {"item_text": ["title"], "item_title": "title"}
    digests = {file.name: sha256_file(file) for file in path.parent.glob("*.parquet")}
    write_json(manifest, {"roles": roles, "sha256": digests})
    return Dataset.open(path.parent), split_path


def test_rows_that_are_not_train_have_no_review(world: tuple[Dataset, Path]) -> None:
    dataset, split_path = world
    parts = load_split(split_path)[0]
    assert train_reviews(dataset, parts) == ["w0 w1", "w1 w2", "w2 w3", "", "w4 w5", "", "", ""]
    assert item_review_texts(dataset, parts, 2) == ["w0 w1 / w2 w3", "w1 w2", "", ""]
    assert item_review_texts(dataset, parts, 9)[0] == "w0 w1 / w2 w3 / w4 w5"


def test_a_profile_of_the_users_own_words(world: tuple[Dataset, Path]) -> None:
    dataset, split_path = world
    rows, texts = profile_texts(dataset, load_split(split_path)[0], 5, REVIEWED)
    first = dict(zip(rows.tolist(), texts, strict=True))
    titles = dataset.items()["title"].tolist()
    assert first[0] == first[1] == f"wrote: {titles[0]}: w0 w1"
    assert first[3] == f"wrote: {titles[2]} / {titles[0]}: w2 w3"


def test_a_facet_of_reviews_is_filled_by_the_split(world: tuple[Dataset, Path], tmp_path: Path) -> None:
    dataset, split_path = world
    config = EmbeddingConfig.model_validate(
        {
            "encoder": str(save_encoder(tmp_path / "bert", "bert")),
            "reducer": "none",
            "facets": [{"name": "title", "columns": ["title"]}, {"name": "said", "reviews": 2}],
        }
    )
    for name in ("embeddings", "vectors"):
        (tmp_path / name).mkdir()
    facts = embed_items(dataset, config, tmp_path / "embeddings")
    from lorefuse.config import KnowledgeConfig

    paths = (split_path, tmp_path / "embeddings")
    build_item_vectors(dataset, *paths, config, KnowledgeConfig(), tmp_path / "vectors")
    vectors = ItemVectors.load(tmp_path / "vectors")
    width = facts["dim"] // 2
    assert vectors.knowledge["text"].shape == (4, 2 * width)
    assert vectors.knowledge["text"][:, width:].any(1).tolist() == [True, True, False, False]
    full, _ = embed_texts(["w0 w1 / w2 w3"], config.model_copy(update={"facets": ()}))
    reducer = Reducer.load(tmp_path / "vectors")
    np.testing.assert_allclose(vectors.knowledge["text"][0, width:], full[0] - reducer.mean[width:], atol=1e-5)
    new = embed_new_item("w0 w1", config)
    assert not reducer.transform(new, np.ones(1, bool))[:, width:].any()


def test_data_without_reviews_is_named(tmp_path: Path) -> None:
    dataset, split_path = make_world(tmp_path, ROWS, num_items=4)
    with pytest.raises(ConfigError, match="no review text"):
        item_review_texts(dataset, load_split(split_path)[0], 2)


@pytest.mark.parametrize("facet", [{"name": "a", "reviews": 2, "columns": ["title"]}, {"name": "a"}])
def test_a_facet_is_made_of_one_thing(facet: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="facet 'a'"):
        EmbeddingConfig.model_validate({"facets": [facet]})
