"""Several texts per item, Matryoshka widths, and new items that go the same way as old ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from lorefuse.config import EmbeddingConfig
from lorefuse.core.atomic import sha256_file
from lorefuse.core.errors import ConfigError
from lorefuse.data.dataset import Dataset
from lorefuse.embedding import embed
from lorefuse.embedding.facets import facets_of
from lorefuse.embedding.fingerprint import space_of
from lorefuse.embedding.reduce import Reducer, fit_text_reducer

NUM_ITEMS = 30


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    path = tmp_path / "dataset"
    path.mkdir()
    items = {
        "item_id": [f"i{n}" for n in range(NUM_ITEMS)],
        "title": [f"w{n} w{n + 1}" for n in range(NUM_ITEMS)],
        "plot": [f"w{n % 7} w{n % 11} w{n % 13}" if n % 3 else None for n in range(NUM_ITEMS)],
    }
    pd.DataFrame(items).to_parquet(path / "items.parquet", index=False)
    manifest = {"roles": {"item_text": ["title"]}, "sha256": {"items.parquet": sha256_file(path / "items.parquet")}}
    (path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return Dataset.open(path)


@pytest.fixture
def config(encoders: dict[str, Path]) -> EmbeddingConfig:
    facets = [
        {"name": "name", "columns": ["title"], "reduce_dim": 3, "prompt": "plain@1"},
        {"name": "story", "prompt": "w50 {plot}"},
    ]
    content = {"encoder": str(encoders["bert"]), "num_threads": 1, "reduce_dim": 2, "facets": facets}
    return EmbeddingConfig.model_validate(content)


def embed_into(
    dataset: Dataset, config: EmbeddingConfig, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    path.mkdir()
    facts = embed.embed_items(dataset, config, path)
    return load_file(path / embed.ARRAYS_FILE), facts


def test_facets_stand_side_by_side_and_a_missing_one_is_zeros(
    dataset: Dataset, config: EmbeddingConfig, tmp_path: Path
) -> None:
    arrays, facts = embed_into(dataset, config, tmp_path / "out")
    assert facts["dim"] == 32
    has_plot = np.arange(NUM_ITEMS) % 3 != 0
    np.testing.assert_array_equal(arrays["has_facet"], np.stack([np.ones(NUM_ITEMS, bool), has_plot], axis=1))
    is_train = np.arange(NUM_ITEMS) < 20
    reducer, widths = fit_text_reducer(arrays["full"], arrays["has_facet"], is_train, config)
    assert widths == {"name": 3, "story": 2}
    text = reducer.transform(arrays["full"], arrays["has_text"])
    assert text.shape == (NUM_ITEMS, 5)
    assert text[:, :3].any(1).all()
    np.testing.assert_array_equal(text[:, 3:].any(1), has_plot)
    # Each block is what the facet alone would give.
    alone, facet = fit_text_reducer(arrays["full"][:, :16], arrays["has_facet"][:, :1], is_train, facet_alone(config))
    assert facet == {"text": 3}
    np.testing.assert_allclose(text[:, :3], alone.transform(arrays["full"][:, :16], arrays["has_text"]), atol=1e-6)


def facet_alone(config: EmbeddingConfig) -> EmbeddingConfig:
    return config.model_copy(update={"facets": (), "reduce_dim": 3})


def test_a_new_item_goes_the_way_of_the_old_ones(dataset: Dataset, config: EmbeddingConfig, tmp_path: Path) -> None:
    arrays, _ = embed_into(dataset, config, tmp_path / "out")
    reducer, _ = fit_text_reducer(arrays["full"], arrays["has_facet"], np.ones(NUM_ITEMS, bool), config)
    reducer.save(tmp_path)
    loaded, row = Reducer.load(tmp_path), 4
    known = np.ones(1, dtype=bool)
    old = loaded.transform(arrays["full"][[row]], known)
    texts = {"name": "w4 w5", "story": f"w50 w{row % 7} w{row % 11} w{row % 13}"}
    new = loaded.transform(embed.embed_new_item(texts, config), known)
    np.testing.assert_allclose(new, old, atol=1e-6)
    first_only = loaded.transform(embed.embed_new_item("w4 w5", config), known)
    np.testing.assert_array_equal(first_only[:, :3], new[:, :3])
    assert not first_only[:, 3:].any()
    with pytest.raises(ConfigError, match="no facet 'genre'"):
        embed.embed_new_item({"genre": "w1"}, config)


def test_a_facet_that_no_item_has_takes_no_room(config: EmbeddingConfig) -> None:
    full = np.random.default_rng(0).normal(size=(NUM_ITEMS, 32)).astype(np.float32)
    full[:, 16:] = 0
    has_facet = np.stack([np.ones(NUM_ITEMS, bool), np.zeros(NUM_ITEMS, bool)], axis=1)
    reducer, widths = fit_text_reducer(full, has_facet, np.ones(NUM_ITEMS, bool), config)
    assert widths == {"name": 3, "story": 0}
    assert reducer.transform(full, has_facet.any(1)).shape == (NUM_ITEMS, 3)


def test_leading_dimensions_come_from_one_encoding(config: EmbeddingConfig) -> None:
    plain = facet_alone(config)
    whole, _ = embed.embed_texts(["w1", "w2 w3"], plain)
    short, report = embed.embed_texts(["w1", "", "w2 w3"], plain.model_copy(update={"truncate_dim": 6}))
    assert report["num_encoded"] == 0
    leading = whole[:, :6] / np.linalg.norm(whole[:, :6], axis=1, keepdims=True)
    np.testing.assert_allclose(short, [leading[0], np.zeros(6), leading[1]], atol=1e-6)
    raw = plain.model_copy(update={"normalize": False})
    long, _ = embed.embed_texts(["w1"], raw)
    np.testing.assert_array_equal(embed.embed_texts(["w1"], raw.model_copy(update={"truncate_dim": 6}))[0], long[:, :6])
    with pytest.raises(ConfigError, match="wider than the encoder"):
        embed.embed_texts(["w1"], plain.model_copy(update={"truncate_dim": 17}))


def test_all_that_decides_a_matrix_is_in_its_address(config: EmbeddingConfig) -> None:
    changes = [
        {"truncate_dim": 8},
        {"instruction": "w1 "},
        {"normalize": False},
        {"append_eos": True},
        {"facets": config.facets[::-1]},
        {"facets": ()},
        {"prompt": "{title}", "facets": ()},
    ]
    spaces = [json.dumps(space_of(config.model_copy(update=change))) for change in [{}, *changes]]
    assert len(set(spaces)) == len(spaces)
    reduced = config.model_copy(update={"reducer": "whitening", "reduce_dim": 5})
    assert space_of(reduced) == space_of(config)


def test_vectors_from_before_keep_their_address(encoders: dict[str, Path]) -> None:
    space = space_of(EmbeddingConfig(encoder=str(encoders["bert"])))
    assert set(space) == {"encoder", "revision", "prompt", "pooling", "max_tokens", "dtype", "dim"}


def test_a_mapping_is_short_for_a_list() -> None:
    short = EmbeddingConfig.model_validate({"facets": {"b": ["title"], "a": ["plot", "genres"]}})
    assert [(facet.name, facet.columns) for facet in facets_of(short)] == [("b", ("title",)), ("a", ("plot", "genres"))]
    assert EmbeddingConfig.model_validate(short.model_dump(mode="json")) == short


@pytest.mark.parametrize(
    "facets", [{"a": []}, [{"name": "a", "columns": ["x"]}, {"name": "a", "columns": ["y"]}], {"A b": ["x"]}]
)
def test_facets_that_cannot_be_meant(facets: object) -> None:
    with pytest.raises(ValidationError, match=r"facet|name"):
        EmbeddingConfig.model_validate({"facets": facets})
