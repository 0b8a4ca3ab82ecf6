"""A grown dataset in the meaning of a model made before: old rows to the bit, new ones by the model's own maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from lorefuse.config import DataConfig, NegativesConfig, PipelineConfig, SplitConfig
from lorefuse.core.atomic import sha256_file, write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import SPLIT_CODES, Split, View
from lorefuse.data.append import fresh_rows
from lorefuse.data.dataset import Dataset
from lorefuse.data.split import load_split, split
from lorefuse.embedding.reduce import Reducer
from lorefuse.feature_store.new_entities import Extended, extend, extended_set
from lorefuse.feature_store.store import apply_and_materialize, online_features
from lorefuse.feature_store.update import build_update, update_store
from lorefuse.features.build import build_feature_data, history_of, read_views
from lorefuse.features.interactions import InteractionRows
from lorefuse.features.prior import ItemPrior
from lorefuse.features.rows import item_numeric_rows, user_interest_rows, user_numeric_rows
from lorefuse.training_set.vectors import ItemVectors
from tests.helpers.feature_world import CONFIG, make_vectors, make_world

NUM_KNOWN_ITEMS, NUM_KNOWN_USERS, NUM_KNOWN_ROWS = 36, 22, 450
FULL_DIM = 6


@dataclass(frozen=True)
class Grown:
    """A dataset, the one it grew from, and a model's folders of the smaller one."""

    merged: Dataset
    base: Dataset
    split_path: Path
    vectors_path: Path
    feature_data_path: Path
    embeddings_path: Path

    @property
    def is_new(self) -> np.ndarray:
        return fresh_rows(self.merged, self.base)

    def extended(self) -> Extended:
        return extend(self.merged, self.embeddings_path, self.vectors_path, self.feature_data_path)


@pytest.fixture(scope="module", params=["plain", "negatives"])
def grown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    return _grow(
        tmp_path_factory.mktemp("grown"), NegativesConfig(num_eval=2) if request.param == "negatives" else None
    )


def _grow(path: Path, negatives: NegativesConfig | None) -> Grown:
    world = make_world(path / "world").dataset
    merged = _part(world, path / "merged", len(world.users()), len(world.items()), len(world.interactions()))
    base = _part(world, path / "base", NUM_KNOWN_USERS, NUM_KNOWN_ITEMS, NUM_KNOWN_ROWS)
    names = ("split", "vectors", "feature_data", "embeddings")
    for name in names:
        (path / name).mkdir()
    split(base, SplitConfig(strategy="global_time", cold_item_share=0.1), path / "split", negatives)
    reducer = Reducer(np.ones(FULL_DIM, np.float32), np.eye(FULL_DIM, 4, dtype=np.float32), np.ones(1, np.float32))
    reducer.save(path / "vectors")
    every = make_vectors(4, 3)
    known = {name: vectors[:NUM_KNOWN_ITEMS] for name, vectors in every.knowledge.items()}
    ItemVectors(NUM_KNOWN_ITEMS, known, {}).save(path / "vectors")
    build_feature_data(base, path / "split", ItemVectors.load(path / "vectors"), CONFIG, path / "feature_data")
    full = np.random.default_rng(1).standard_normal((len(merged.items()), FULL_DIM)).astype(np.float32)
    arrays = {"full": full, "has_text": np.ones(len(full), bool)}
    save_file(arrays, str(path / "embeddings" / "item_embeddings.safetensors"))
    return Grown(merged, base, *(path / name for name in names))


def _part(world: Dataset, path: Path, num_users: int, num_items: int, num_rows: int) -> Dataset:
    """Write the first users, items and rows as a dataset; like every ingested one it repeats no interaction."""
    path.mkdir()
    items, users, events = world.items()[:num_items], world.users()[:num_users], world.interactions()[:num_rows]
    events = events[events["item_id"].isin(items["item_id"]) & events["user_id"].isin(users["user_id"])]
    events = events.drop_duplicates(["user_id", "item_id", "event_timestamp"]).assign(row_id=lambda e: range(len(e)))
    for name, frame in (("interactions", events), ("items", items), ("users", users)):
        frame.to_parquet(path / f"{name}.parquet", index=False)
    digests = {file.name: sha256_file(file) for file in path.glob("*.parquet")}
    write_json(path / "manifest.json", {"roles": world.manifest["roles"], "sha256": digests})
    return Dataset.open(path)


def test_known_users_and_items_are_encoded_as_they_were(grown: Grown) -> None:
    extended, stored = grown.extended(), load_file(str(grown.feature_data_path / "tables.safetensors"))
    assert np.array_equal(extended.user_fields[:NUM_KNOWN_USERS], stored["user_fields"])
    assert np.array_equal(extended.item_fields[:NUM_KNOWN_ITEMS], stored["item_fields"])
    assert np.array_equal(extended.item_multi[:NUM_KNOWN_ITEMS], stored["item_multi"])
    assert (extended.user_fields[NUM_KNOWN_USERS:, 0] == 0).all()
    assert (extended.item_fields[NUM_KNOWN_ITEMS:, 0] == 0).all()
    assert extended.item_fields[NUM_KNOWN_ITEMS:, 1].all()  # their decade is known


def test_new_items_come_through_the_models_own_maps(grown: Grown) -> None:
    extended, known = grown.extended(), ItemVectors.load(grown.vectors_path)
    full = load_file(str(grown.embeddings_path / "item_embeddings.safetensors"))["full"]
    assert np.array_equal(extended.vectors.knowledge["text"][:NUM_KNOWN_ITEMS], known.knowledge["text"])
    assert extended.vectors.knowledge["text"][NUM_KNOWN_ITEMS:] == pytest.approx(full[NUM_KNOWN_ITEMS:, :4] - 1)
    assert not extended.vectors.knowledge["graph"][NUM_KNOWN_ITEMS:].any()
    prior = ItemPrior.load(grown.feature_data_path)
    assert np.array_equal(extended.prior.values[:NUM_KNOWN_ITEMS], prior.values)
    assert np.isfinite(extended.prior.values).all()
    assert len(extended.prior.values) == len(grown.merged.items())


def test_a_dataset_without_new_items_is_as_the_model_knows_it(grown: Grown, tmp_path: Path) -> None:
    full = load_file(str(grown.embeddings_path / "item_embeddings.safetensors"))
    known = {name: array[:NUM_KNOWN_ITEMS] for name, array in full.items()}
    save_file(known, str(tmp_path / "item_embeddings.safetensors"))
    extended = extend(grown.base, tmp_path, grown.vectors_path, grown.feature_data_path)
    assert np.array_equal(extended.prior.values, ItemPrior.load(grown.feature_data_path).values)
    assert np.array_equal(extended.vectors.knowledge["text"], ItemVectors.load(grown.vectors_path).knowledge["text"])


def test_rows_that_the_model_was_made_with_keep_their_features_to_the_bit(grown: Grown) -> None:
    training_set, test, new = extended_set(grown.merged, grown.is_new, grown.split_path, grown.extended(), CONFIG)
    before = history_of(InteractionRows.of(grown.base, load_split(grown.split_path)[0]), "binary")
    vectors = ItemVectors.load(grown.vectors_path)
    old = np.flatnonzero(~grown.is_new)
    assert np.array_equal(training_set.user_numeric[old], user_numeric_rows(before))
    assert np.array_equal(
        training_set.item_numeric[old], item_numeric_rows(before, ItemPrior.load(grown.feature_data_path))
    )
    expected = user_interest_rows(before, vectors.knowledge, CONFIG.features.interest_shrinkage)
    assert training_set.user_interest[old] == pytest.approx(expected, abs=1e-6)
    assert set(training_set.state_row[new]) == set(np.flatnonzero(grown.is_new))
    assert not set(test) & set(new)


def test_new_rows_know_train_rows_alone(grown: Grown) -> None:
    config = PipelineConfig(data=DataConfig(negatives=NegativesConfig(num_eval=2)))
    training_set, test, new = extended_set(grown.merged, grown.is_new, grown.split_path, grown.extended(), config)
    is_train = training_set.split_code[: training_set.num_states] == SPLIT_CODES[Split.TRAIN]
    assert not (is_train & grown.is_new).any()
    users, times = training_set.user_row, training_set.timestamp_us
    for row in new[:40]:
        earlier = is_train & (users[: len(is_train)] == users[row]) & (times[: len(is_train)] < times[row])
        log_count = training_set.user_numeric[training_set.state_row[row], 0]
        assert log_count == pytest.approx(np.log1p(earlier.sum()), rel=1e-6)
    sampled = training_set.num_rows > training_set.num_states
    assert sampled == (grown.split_path / "negatives.parquet").exists()
    if sampled:
        for rows in (test, new):
            assert 0 < training_set.label[rows].mean() < 0.5
    assert len(new) >= grown.is_new.sum()


def test_another_datasets_split_is_refused(grown: Grown) -> None:
    with pytest.raises(ArtifactError, match="does not belong to the dataset that has grown"):
        extended_set(grown.merged, ~grown.is_new, grown.split_path, grown.extended(), CONFIG)


def test_an_updated_store_says_what_is_known_now(tmp_path: Path) -> None:
    grown = _grow(tmp_path, None)
    since = read_views(grown.feature_data_path)["data_cutoff"]
    before_path, after_path, whole_path, update_path = (tmp_path / n for n in ("before", "after", "whole", "update"))
    for path in (before_path, after_path, whole_path, update_path):
        path.mkdir()
    known = {"user": NUM_KNOWN_USERS, "item": NUM_KNOWN_ITEMS}
    counts = build_update(grown.merged, known, grown.extended(), since, PipelineConfig(), update_path)
    assert counts["item_text"] == len(grown.merged.items()) - NUM_KNOWN_ITEMS
    assert counts[View.USER_STATS] > 0
    assert not (update_path / "vocabularies.json").exists()
    apply_and_materialize(grown.feature_data_path, before_path)
    update_store(update_path, before_path, since, after_path)
    apply_and_materialize(update_path, whole_path)
    late = grown.merged.interactions()
    late = late[late["event_timestamp"] > pd.Timestamp(since)]
    users = sorted(late["user_id"].unique())
    columns = ["user_log_count", "user_mean_label"]
    told, whole, old = (
        online_features(path, View.USER_STATS, columns, users)[columns].to_numpy(float)
        for path in (after_path, whole_path, before_path)
    )
    assert told == pytest.approx(whole)
    assert (np.nan_to_num(told[:, 0]) > np.nan_to_num(old[:, 0])).all()
    items = grown.merged.items()["item_id"].tolist()
    priors = online_features(after_path, View.ITEM_STATS, ["item_prior"], sorted(late["item_id"].unique()))
    expected = dict(zip(items, grown.extended().prior.values, strict=True))
    assert priors["item_prior"].tolist() == pytest.approx([expected[item] for item in priors["item_id"]])
    titles = online_features(after_path, View.ITEM_ATTRIBUTES, ["title"], items[-2:])
    assert titles["title"].tolist() == grown.merged.items()["title"].tolist()[-2:]
