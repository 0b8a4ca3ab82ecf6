"""A training set of a few hundred rows, made by the functions that make the real ones."""

from __future__ import annotations

import numpy as np

from lorefuse.config import DeepFMConfig, EvaluationConfig, PipelineConfig, TrainingConfig, TuningConfig
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.features.aggregates import ITEM_NUMERIC, USER_NUMERIC
from lorefuse.features.rows import (
    Interactions,
    interest_facets,
    item_numeric_now,
    item_numeric_rows,
    item_prior,
    user_interest_rows,
    user_numeric_rows,
)
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import CategoricalField, FeatureSpec, MultiField
from tests.helpers.knowledge import blocks, present

NUM_USERS, NUM_ITEMS, NUM_COLD = 20, 40, 5


def make_training_set(
    *,
    num_rows: int = 300,
    text_dim: int = 4,
    graph_dim: int = 3,
    sound_dim: int = 0,
    label_kind: str = "binary",
    seed: int = 0,
) -> TrainingSet:
    """Users like items whose vectors point their way; the last items are cold; time runs row by row.

    Args:
        num_rows: Rows R, 70 % train, 15 % validation, 15 % test by time.
        text_dim: Width of the text vectors; 0: none.
        graph_dim: Width of the graph vectors; 0: none.
        sound_dim: Width of one more knowledge block, which says nothing; 0: none.
        label_kind: ``binary`` or ``regression``.
        seed: Of everything drawn.
    """
    rng = np.random.default_rng(seed)
    text = rng.standard_normal((NUM_ITEMS, text_dim)).astype(np.float32)
    graph = rng.standard_normal((NUM_ITEMS, graph_dim)).astype(np.float32)
    sound = np.random.default_rng(seed + 1).standard_normal((NUM_ITEMS, sound_dim)).astype(np.float32)
    vectors = present(text=text, graph=graph, sound=sound)
    user_row = rng.integers(0, NUM_USERS, num_rows).astype(np.int32)
    item_row = rng.integers(0, NUM_ITEMS, num_rows).astype(np.int32)
    part = np.where(np.arange(num_rows) < 0.7 * num_rows, 0, np.where(np.arange(num_rows) < 0.85 * num_rows, 1, 2))
    is_cold_item = item_row >= NUM_ITEMS - NUM_COLD
    item_row[is_cold_item & (part == 0)] -= NUM_COLD  # cold items have no train row
    knowledge = np.concatenate([text, graph, np.ones((NUM_ITEMS, 1), np.float32)], axis=1)
    taste = rng.standard_normal((NUM_USERS, knowledge.shape[1]))
    affinity = (taste[user_row] * knowledge[item_row]).sum(1) + 0.3 * rng.standard_normal(num_rows)
    value = np.clip(np.round(3.5 + affinity), 1, 5).astype(np.float32)
    label = (value >= 4).astype(np.float32) if label_kind == "binary" else value
    split_code = np.array([SPLIT_CODES[s] for s in (Split.TRAIN, Split.VALIDATION, Split.TEST)], np.uint8)[part]
    timestamp_us = (1_000_000 * np.arange(num_rows)).astype(np.int64)
    history = Interactions.of(user_row, item_row, timestamp_us, label, value, part == 0, label_kind)
    spec = FeatureSpec(
        user_fields=(
            CategoricalField(name="user_id", size=NUM_USERS + 1),
            CategoricalField(name="gender", size=3),
        ),
        item_fields=(
            CategoricalField(name="item_id", size=NUM_ITEMS - NUM_COLD + 1),
            CategoricalField(name="release_decade", size=4),
        ),
        item_multi_fields=(MultiField(name="genres", size=5, width=2),),
        user_numeric=USER_NUMERIC,
        item_numeric=ITEM_NUMERIC,
        interest=interest_facets({name: matrix.shape[1] for name, matrix in vectors.items()}),
        knowledge=blocks(text=text_dim, graph=graph_dim, sound=sound_dim),
        label_kind=label_kind,
    )
    items = np.arange(NUM_ITEMS)
    item_id = np.where(items < NUM_ITEMS - NUM_COLD, items + 1, 0)
    item_fields = np.stack([item_id, rng.integers(0, 4, NUM_ITEMS)], axis=1).astype(np.int64)
    item_multi = np.stack([1 + items % 2, np.where(items % 3, 3 + items % 2, 0)], axis=1).astype(np.int64)
    prior = item_prior(history, vectors, item_fields, item_multi, spec, shrinkage=10.0, num_folds=5)
    training_set = TrainingSet(
        spec=spec,
        user_row=user_row,
        item_row=item_row,
        timestamp_us=timestamp_us,
        value=value,
        label=label,
        split_code=split_code,
        cold=is_cold_item & (part > 0),
        user_numeric=user_numeric_rows(history),
        state_row=np.arange(len(label), dtype=np.int32),
        user_history=np.zeros((len(label), 0), np.int32),
        user_interest=user_interest_rows(history, vectors, 10.0),
        item_numeric=item_numeric_rows(history, prior),
        user_fields=np.stack([np.arange(NUM_USERS) + 1, np.arange(NUM_USERS) % 3], axis=1).astype(np.int64),
        item_fields=item_fields,
        item_multi=item_multi,
        knowledge=vectors,
        item_numeric_now=item_numeric_now(history, prior),
    )
    training_set.check()
    return training_set


def small_config(**sections: object) -> PipelineConfig:
    """A configuration under which a training takes a moment; `sections` replace those made here."""
    made: dict[str, object] = {
        "model": DeepFMConfig(embedding_dim=4, hidden_dims=(8,), fusion_text_dim=2, fusion_graph_dim=2),
        "training": TrainingConfig(batch_size=64, learning_rate=0.01, max_epochs=3, num_threads=1),
        "tuning": TuningConfig(num_trials=5),
        "evaluation": EvaluationConfig(arms=("real", "none", "shuffled"), num_seeds=2, num_bootstraps=30, k=3),
    }
    return PipelineConfig(**{**made, **sections})
