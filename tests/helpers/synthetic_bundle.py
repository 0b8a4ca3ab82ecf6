"""A small data set through the real rooms, ending in a bundle of an untrained DeepFM and a store filled by Feast."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from lorefuse.config import ModelConfig, PipelineConfig, parse_config
from lorefuse.core.atomic import atomic_folder, sha256_file, write_json
from lorefuse.data.dataset import Dataset
from lorefuse.data.ingest import ingest
from lorefuse.data.split import load_split, split
from lorefuse.embedding.reduce import Reducer
from lorefuse.export.write_bundle import write_bundle
from lorefuse.feature_store.store import apply_and_materialize
from lorefuse.features.build import TABLES_FILE, build_feature_data, history_of
from lorefuse.features.history import with_history
from lorefuse.features.interactions import InteractionRows
from lorefuse.features.prior import ItemPrior
from lorefuse.features.rows import item_numeric_now, item_numeric_rows, user_interest_rows, user_numeric_rows
from lorefuse.knowledge.own_vectors import own_blocks
from lorefuse.lists.run import run_lists
from lorefuse.models.build import build_ranker, save_ranker
from lorefuse.models.ranker import Ranker
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec
from lorefuse.training_set.vectors import ItemVectors

NUM_USERS, NUM_ITEMS, TEXT_DIM, GRAPH_DIM, FULL_DIM = 30, 40, 4, 3, 384
SOUND_DIM, SOUND_FILE, LATER_ITEMS = 2, "sound.npz", ("brand-new", "new-1")
"""Vectors of one's own: a third block, whose file also knows items that come later."""


@dataclass(frozen=True)
class World:
    """Folders of everything that an export needs."""

    path: Path
    config: PipelineConfig
    dataset: Dataset
    training_set: TrainingSet

    @property
    def store_path(self) -> Path:
        return self.path / "store"


def make_world(path: Path, *, max_k: int = 25, decade: str = "decade", genres: str = "genres") -> World:
    """Write raw files and take them through ingest, split, features and Feast; two columns of items as they are called.

    Users have a column ``gender``.
    """
    rng = np.random.default_rng(7)
    _write_raw(path, rng)
    items = pd.read_parquet(path / "items.parquet").rename(columns={"decade": decade, "genres": genres})
    items.to_parquet(path / "items.parquet", index=False)
    config = _config(path, max_k, decade, genres)
    for name in ("dataset", "split", "vectors", "feature_data", "store", "embeddings"):
        (path / name).mkdir()
    ingest(config.data, path / "dataset")
    dataset = Dataset.open(path / "dataset")
    split(dataset, config.split, path / "split")
    _write_vectors(path, rng, dataset, config)
    vectors = ItemVectors.load(path / "vectors")
    build_feature_data(dataset, path / "split", vectors, config, path / "feature_data")
    apply_and_materialize(path / "feature_data", path / "store")
    write_json(path / "embeddings" / "embedding.json", {"address": "synthetic", "dim": FULL_DIM})
    return World(path, config, dataset, _training_set(dataset, vectors, config, path))


def make_ranker(world: World, seed: int, model: ModelConfig | None = None) -> Ranker:
    """A ranker (a DeepFM, if nothing else is said) whose weights are all well away from zero."""
    model = model or world.config.model
    training_set = with_history(world.training_set, getattr(model, "history_length", 0))
    ranker = build_ranker(model, training_set.spec, seed=seed)
    ranker.prepare(training_set)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return ranker.eval()


def make_bundle(world: World, ranker: Ranker, out_path: Path, lists_path: Path | None = None) -> Path:
    """Write a bundle as the export step does."""
    with atomic_folder(out_path) as draft_path:
        write_bundle(
            ranker,
            world.training_set,
            world.config,
            world.path / "feature_data",
            world.path / "vectors",
            world.path / "embeddings",
            world.path / "dataset",
            {"test": {"auc": 0.5}},
            draft_path,
            lists_path,
        )
    return out_path


def make_lists(world: World, ranker: Ranker, path: Path) -> Path:
    """Write a candidate stage as the lists step does, from texts that are made up."""
    for name in ("rows", "ranker", "texts", "stages"):
        (path / name).mkdir(parents=True)
    world.training_set.save(path / "rows")
    save_ranker(ranker, world.config.model, path / "ranker")
    vectors = np.random.default_rng(0).normal(size=(NUM_ITEMS, FULL_DIM)).astype(np.float32)
    save_file({"full": vectors}, str(path / "texts" / "item_embeddings.safetensors"))
    run_lists(path / "rows", {"real": path / "ranker"}, path / "texts", world.config, path / "stages")
    return path / "stages"


def grow(world: World, path: Path) -> World:
    """The same world with one item more, as a catalogue refresh finds it: the new item is a copy of the first."""
    shutil.copytree(world.path / "dataset", path / "dataset")
    for name in ("feature_data", "vectors", "embeddings"):
        (path / name).symlink_to(world.path / name)
    items = world.dataset.items()
    more = pd.concat([items, items.iloc[:1].assign(item_id="brand-new")], ignore_index=True)
    more.to_parquet(path / "dataset" / "items.parquet", index=False)
    manifest = json.loads((path / "dataset" / "manifest.json").read_text())
    manifest["sha256"]["items.parquet"] = sha256_file(path / "dataset" / "items.parquet")
    write_json(path / "dataset" / "manifest.json", manifest)
    known = world.training_set

    def longer(table: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([table, table[:1]])

    item_fields = longer(known.item_fields)
    item_fields[-1, 0] = 0  # nobody has seen its id
    training_set = dataclasses.replace(
        known,
        item_fields=item_fields,
        item_multi=longer(known.item_multi),
        item_numeric_now=longer(known.item_numeric_now),
        knowledge={name: longer(table) for name, table in known.knowledge.items()},
    )
    return World(path, world.config, Dataset.open(path / "dataset"), training_set)


def _write_raw(path: Path, rng: np.random.Generator) -> None:
    events = pd.DataFrame(
        {
            "user_id": [f"u{int(n)}" for n in NUM_USERS * rng.random(900) ** 2],
            "item_id": [f"i{n}" for n in rng.integers(0, NUM_ITEMS, 900)],
            "timestamp": 1_000_000_000 + np.arange(900) * 3600,
            "rating": rng.integers(1, 6, 900),
        }
    ).drop_duplicates(["user_id", "item_id"])
    events.to_parquet(path / "events.parquet", index=False)
    pd.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(NUM_ITEMS)],
            "title": [f"Film Nº {n}" for n in range(NUM_ITEMS)],
            "genres": [
                "|".join(rng.choice(["Drama", "Comedy", "War"], 1 + n % 2, replace=False)) for n in range(NUM_ITEMS)
            ],
            "decade": [f"{1970 + 10 * (n % 3)}s" for n in range(NUM_ITEMS)],
        }
    ).to_parquet(path / "items.parquet", index=False)
    pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in range(NUM_USERS)],
            "gender": ["F" if n % 2 else "M" for n in range(NUM_USERS)],
        }
    ).to_parquet(path / "users.parquet", index=False)


def _config(path: Path, max_k: int, decade: str, genres: str) -> PipelineConfig:
    source = {
        "kind": "files",
        "interactions_path": str(path / "events.parquet"),
        "items_path": str(path / "items.parquet"),
        "users_path": str(path / "users.parquet"),
        "item_text": ["title", genres],
        "item_categories": [decade],
        "item_multi_categories": [genres],
        "user_categories": ["gender"],
    }
    return parse_config(
        {
            "name": "synthetic",
            "data": {"source": source},
            "embedding": {"reduce_dim": TEXT_DIM},
            "knowledge": {
                "graph_dim": GRAPH_DIM,
                "item_vectors": {"sound": {"path": str(path / SOUND_FILE), "reduce_dim": SOUND_DIM}},
            },
            "model": {"embedding_dim": 4, "hidden_dims": [16, 8]},
            "serving": {"max_k": max_k, "max_exclude": 64, "num_reference_rows": 32},
        }
    )


def _write_vectors(path: Path, rng: np.random.Generator, dataset: Dataset, config: PipelineConfig) -> None:
    knowledge = {
        "text": rng.normal(size=(NUM_ITEMS, TEXT_DIM)).astype(np.float32),
        "graph": rng.normal(size=(NUM_ITEMS, GRAPH_DIM)).astype(np.float32),
    }
    knowledge["graph"][::5] = 0
    ids = dataset.items()["item_id"].tolist()
    sound = np.random.default_rng(11).normal(size=(len(ids) + len(LATER_ITEMS), 5))
    np.savez(path / SOUND_FILE, item_id=np.array([*ids, *LATER_ITEMS]), vector=sound)
    own, _ = own_blocks(ids, np.ones(len(ids), bool), config.knowledge, path / "vectors")
    facts = {"data_cutoff": load_split(path / "split")[1]["data_cutoff"]}
    ItemVectors(NUM_ITEMS, knowledge | own, facts).save(path / "vectors")
    Reducer(
        mean=rng.normal(size=FULL_DIM).astype(np.float32),
        components=rng.normal(size=(FULL_DIM, TEXT_DIM)).astype(np.float32),
        scale=np.ones(1, dtype=np.float32),
    ).save(path / "vectors")


def _training_set(dataset: Dataset, vectors: ItemVectors, config: PipelineConfig, path: Path) -> TrainingSet:
    """The training set computed in memory: the store's join has tests of its own."""
    rows = InteractionRows.of(dataset, load_split(path / "split")[0])
    history, prior = history_of(rows, "binary"), ItemPrior.load(path / "feature_data")
    training_set = TrainingSet(
        spec=FeatureSpec.load(path / "feature_data"),
        user_row=rows.user_row,
        item_row=rows.item_row,
        timestamp_us=rows.timestamp_us,
        value=rows.value,
        label=rows.label,
        split_code=rows.split_code,
        cold=rows.cold,
        user_numeric=user_numeric_rows(history),
        state_row=rows.state_row,
        user_history=np.zeros((len(rows.label), 0), np.int32),
        user_interest=user_interest_rows(history, vectors.knowledge, config.features.interest_shrinkage),
        item_numeric=item_numeric_rows(history, prior),
        knowledge=vectors.knowledge,
        item_numeric_now=item_numeric_now(history, prior),
        **load_file(str(path / "feature_data" / TABLES_FILE)),
    )
    training_set.check()
    return training_set
