"""Made-up users with tastes: an item belongs to a taste, users take items of theirs, new items have texts alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lorefuse.config import PipelineConfig, parse_config
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC
from lorefuse.features.rows import interest_facets
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import CategoricalField, FeatureSpec
from tests.helpers.knowledge import blocks, present

NUM_USERS, NUM_ITEMS, NUM_TASTES, NUM_NEW, PER_USER = 120, 60, 4, 8, 14


def taste_of(item: np.ndarray) -> np.ndarray:
    return item % NUM_TASTES


def make_taste_set(seed: int = 0, text: bool = True) -> TrainingSet:
    """Users take items of one taste, now and then another; the last items have no train row."""
    rng = np.random.default_rng(seed)
    users, items, codes, labels = [], [], [], []
    for user in range(NUM_USERS):
        own = rng.permutation(np.flatnonzero(taste_of(np.arange(NUM_ITEMS)) == user % NUM_TASTES))
        other = rng.permutation(np.flatnonzero(taste_of(np.arange(NUM_ITEMS)) != user % NUM_TASTES))
        known = own[own < NUM_ITEMS - NUM_NEW]
        new = own[own >= NUM_ITEMS - NUM_NEW]
        taken = np.concatenate([known[:8], other[other < NUM_ITEMS - NUM_NEW][:2]])
        parts = [(rng.permutation(taken), Split.TRAIN), (np.r_[known[8:9], new[:1]], Split.VALIDATION)]
        parts += [(np.r_[known[9:10], new[1:2]], Split.TEST)]
        for rows, part in parts:
            users += [user] * len(rows)
            items += rows.tolist()
            codes += [SPLIT_CODES[part]] * len(rows)
            labels += (taste_of(rows) == user % NUM_TASTES).astype(float).tolist()
    user, item, code = (np.array(column) for column in (users, items, codes))
    num_rows = len(user)
    vectors = np.zeros((NUM_ITEMS, NUM_TASTES), np.float32)
    vectors[np.arange(NUM_ITEMS), taste_of(np.arange(NUM_ITEMS))] = 1
    vectors += 0.1 * rng.normal(size=vectors.shape).astype(np.float32)
    if not text:
        vectors = vectors[:, :0]
    in_train = np.bincount(item[code == 0], minlength=NUM_ITEMS) > 0
    ids = np.where(in_train, np.arange(1, NUM_ITEMS + 1), 0)
    return TrainingSet(
        spec=FeatureSpec(
            user_fields=(CategoricalField(name="user_id", size=NUM_USERS + 1),),
            item_fields=(CategoricalField(name="item_id", size=NUM_ITEMS + 1),),
            user_numeric=USER_NUMERIC,
            item_numeric=ITEM_NUMERIC,
            interest=interest_facets({name: matrix.shape[1] for name, matrix in present(text=vectors).items()}),
            knowledge=blocks(text=vectors.shape[1]),
            data_cutoff="2024-01-01T00:00:00+00:00",
        ),
        user_row=user.astype(np.int32),
        item_row=item.astype(np.int32),
        timestamp_us=np.arange(num_rows, dtype=np.int64) * 1_000_000,
        value=np.array(labels, np.float32),
        label=np.array(labels, np.float32),
        split_code=code.astype(np.uint8),
        cold=~in_train[item],
        state_row=np.arange(num_rows, dtype=np.int32),
        user_numeric=rng.normal(size=(num_rows, len(USER_NUMERIC))).astype(np.float32),
        user_interest=rng.normal(size=(num_rows, 2 * vectors.shape[1])).astype(np.float32),
        user_history=np.zeros((num_rows, 0), np.int32),
        item_numeric=rng.normal(size=(num_rows, len(ITEM_NUMERIC))).astype(np.float32),
        user_fields=np.arange(1, NUM_USERS + 1)[:, None],
        item_fields=ids[:, None].astype(np.int64),
        item_multi=np.zeros((NUM_ITEMS, 0), np.int64),
        knowledge=present(text=vectors),
        item_numeric_now=rng.normal(size=(NUM_ITEMS, len(ITEM_NUMERIC))).astype(np.float32),
    )


def write_embeddings(training_set: TrainingSet, path: Path) -> Path:
    path.mkdir(parents=True)
    full = training_set.knowledge.get("text", np.zeros((NUM_ITEMS, 0), np.float32))
    save_file({"full": np.ascontiguousarray(full)}, str(path / "item_embeddings.safetensors"))
    return path


def small_lists_config(**candidates: object) -> PipelineConfig:
    return parse_config(
        {
            "candidates": {"num_candidates": 20, "num_neighbours": 30, "shrinkage": 1, "ease_l2": 10, **candidates},
            "evaluation": {"num_bootstraps": 20, "num_seeds": 1, "arms": ["real", "none"]},
            "model": {"family": "logistic_regression"},
            "serving": {"max_k": 20},
        }
    )
