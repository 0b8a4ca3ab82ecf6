"""The rows of a race: train and validation rows of some users, made in memory. Test rows are not in it.

Features are those of the feature store, to the bit where all users are there; of a sample of users they are the same
but for overall means. Items keep the statistics of everybody's rows. Texts about users are left out: all configurations
would have the same.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig
from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.negatives import read_negatives
from lorefuse.data.split import load_split
from lorefuse.features.build import history_of, make_spec
from lorefuse.features.context import context_facets, context_rows
from lorefuse.features.interactions import InteractionRows, encode_tables
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
from lorefuse.training_set.vectors import ItemVectors

Mask = NDArray[np.bool_]


def race_rows(
    dataset: Dataset, split_path: Path, vectors: ItemVectors, config: PipelineConfig, max_rows: int, seed: int
) -> TrainingSet:
    """Return the train and validation rows of as many users as there is room for.

    Args:
        dataset: The dataset.
        split_path: Parts of the rows.
        vectors: Knowledge of every item.
        config: How features are made.
        max_rows: Most train and validation rows, sampled negatives counted.
        seed: Of the order in which users are taken.
    """
    frame, facts = load_split(split_path)
    interactions = InteractionRows.of(dataset, frame)
    tables = encode_tables(dataset, interactions, config.features)
    history = history_of(interactions, config.data.label.kind)
    spec = make_spec(tables, vectors, config.data.label.kind, facts["data_cutoff"])
    dims = {block.name: block.dim for block in spec.knowledge}
    spec = spec.model_copy(update={"interest": interest_facets(dims) + context_facets(vectors)})
    prior = item_prior(
        history, vectors.knowledge, tables.item_fields, tables.item_multi, spec,
        shrinkage=config.features.prior_shrinkage, num_folds=config.features.num_prior_folds,
    )  # fmt: skip
    rows = interactions.with_negatives(dataset, read_negatives(split_path))
    num_states = len(interactions.label)
    kept_R = _kept(rows, len(tables.user_fields), max_rows, seed)
    states = np.flatnonzero(kept_R[:num_states])
    position = np.full(num_states, -1, np.int32)
    position[states] = np.arange(len(states), dtype=np.int32)
    mine = _part_of(history, states)
    interest = user_interest_rows(mine, vectors.knowledge, config.features.interest_shrinkage)
    if vectors.context is not None:
        interest = np.concatenate([interest, context_rows(vectors)[states]], axis=1)
    everybody = _every_row(rows, num_states, config.data.label.kind)
    return TrainingSet(
        spec=spec,
        **{f.name: getattr(rows, f.name)[kept_R] for f in dataclasses.fields(rows) if f.name != "state_row"},
        state_row=position[rows.state_row[kept_R]],
        user_numeric=user_numeric_rows(mine),
        user_interest=interest,
        user_history=np.zeros((len(states), 0), np.int32),
        item_numeric=item_numeric_rows(everybody, prior)[kept_R],
        item_numeric_now=item_numeric_now(history, prior),
        user_fields=tables.user_fields,
        item_fields=tables.item_fields,
        item_multi=tables.item_multi,
        knowledge=vectors.knowledge,
    )


def users_in_order(num_users: int, seed: int) -> NDArray[np.int64]:
    """Return the place of each user in the order in which samples take them, (U,).

    A smaller sample is part of a larger one.
    """
    place = np.empty(num_users, np.int64)
    place[np.random.default_rng(seed).permutation(num_users)] = np.arange(num_users)
    return place


def thinned(training_set: TrainingSet, share: float, seed: int) -> TrainingSet:
    """Return the rows with those of a share of the users in play; the others' are in no part.

    Args:
        training_set: From `race_rows`.
        share: Of its users, 0 to 1.
        seed: As in `race_rows`.
    """
    if share >= 1:
        return training_set
    users = np.unique(training_set.user_row)
    place = users_in_order(len(training_set.user_fields), seed)
    chosen = users[np.argsort(place[users], kind="stable")][: max(1, round(share * len(users)))]
    code = training_set.split_code.copy()
    code[~np.isin(training_set.user_row, chosen)] = SPLIT_CODES[Split.EXCLUDED]
    return dataclasses.replace(training_set, split_code=code)


def _kept(rows: InteractionRows, num_users: int, max_rows: int, seed: int) -> Mask:
    """Tell which rows are in: train and validation rows of the first users in order, (R,)."""
    usable: Mask = np.isin(rows.split_code, [SPLIT_CODES[Split.TRAIN], SPLIT_CODES[Split.VALIDATION]])
    if usable.sum() <= max_rows:
        return usable
    place = users_in_order(num_users, seed)
    count = np.zeros(len(place), np.int64)
    count[place] = np.bincount(rows.user_row[usable], minlength=len(place))
    num_kept = max(1, int(np.searchsorted(np.cumsum(count), max_rows, side="right")))
    mask: Mask = usable & (place[rows.user_row] < num_kept)
    return mask


def _part_of(history: Interactions, rows: NDArray[np.int64]) -> Interactions:
    return Interactions(**{f.name: getattr(history, f.name)[rows] for f in dataclasses.fields(history)})


def _every_row(rows: InteractionRows, num_states: int, label_kind: str) -> Interactions:
    """Return all rows, of which only train interactions may be known; see `features.history.every_row_of`."""
    known = rows.is_train & (np.arange(len(rows.label)) < num_states)
    return Interactions.of(rows.user_row, rows.item_row, rows.timestamp_us, rows.label, rows.value, known, label_kind)
