"""A model's inputs for users and items that came after it: its own vocabularies, reducer and prior, nothing refitted.

A dataset that grew by `data.append` keeps its users and items in their order and adds new ones at the end, so row
numbers that a model knows stay true. Suffix: ``N`` items now.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lorefuse.config import KnowledgeConfig, PipelineConfig
from lorefuse.core.errors import ArtifactError, ConfigError
from lorefuse.core.schema import COLD, CONTEXT_TEXT, ITEM_ID, ROW_ID, SPLIT, SPLIT_CODES, TEXT, Split
from lorefuse.data.dataset import Dataset
from lorefuse.data.negatives import NEGATIVES_FILE, sample_negatives
from lorefuse.data.split import load_split
from lorefuse.embedding import embed
from lorefuse.embedding.reduce import REDUCER_FILE, Reducer
from lorefuse.features.build import history_of
from lorefuse.features.interactions import InteractionRows
from lorefuse.features.prior import ItemPrior
from lorefuse.features.profile import USER_TEXT_FACETS
from lorefuse.features.rows import (
    item_columns,
    item_numeric_now,
    item_numeric_rows,
    user_interest_rows,
    user_numeric_rows,
)
from lorefuse.features.vocabulary import encode_lists, load_vocabularies
from lorefuse.knowledge.own_vectors import more_items
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.spec import FeatureSpec
from lorefuse.training_set.vectors import ItemVectors


@dataclass(frozen=True)
class Extended:
    """What a model's inputs are made of, for every user and item there is now.

    Attributes:
        spec: The model's own.
        vectors: Knowledge of N items.
        prior: Of N items.
        user_fields: int64 (U, Fu).
        item_fields: int64 (N, Fi).
        item_multi: int64 (N, M).
    """

    spec: FeatureSpec
    vectors: ItemVectors
    prior: ItemPrior
    user_fields: NDArray[np.int64]
    item_fields: NDArray[np.int64]
    item_multi: NDArray[np.int64]


def extend(
    dataset: Dataset,
    embeddings_path: Path,
    vectors_path: Path,
    feature_data_path: Path,
    knowledge: KnowledgeConfig | None = None,
) -> Extended:
    """Encode a grown dataset's users and items as a model knows them.

    Items that the model was trained beside keep their vectors and priors to the bit. New ones get their text through
    its reducer, vectors of one's own likewise, no graph (it was decomposed without them), and the prior of an item
    without train rows.

    Args:
        dataset: The grown dataset.
        embeddings_path: Full text vectors of its items.
        vectors_path: Item vectors of the model, with the reducer.
        feature_data_path: The model's vocabularies, prior and spec.
        knowledge: Names the files with vectors of one's own.

    Raises:
        DataError: A file of vectors cannot be used.
        ArtifactError: A folder is not whole, or the dataset has fewer items than the model knows.
        ConfigError: The model reads texts about users, or what they asked.
    """
    spec, vocabularies = FeatureSpec.load(feature_data_path), load_vocabularies(feature_data_path)
    users, items = dataset.users(), dataset.items()
    if any(facet.name in (*USER_TEXT_FACETS, CONTEXT_TEXT) for facet in spec.interest):
        raise ConfigError(
            "A model that reads texts about users, or what they asked, cannot be brought up to date without training.",
            expected="embedding.profile_items: 0, no embedding.written_users, no data.source.context_text",
            fix="train on the grown data: lorefuse run",
        )
    ids = items[ITEM_ID].tolist()
    vectors = _extend_vectors(ItemVectors.load(vectors_path), embeddings_path, vectors_path, ids, knowledge)
    blocks = [np.zeros((len(items), 0), dtype=np.int64)]
    blocks += [encode_lists(vocabularies[f.name], items[f.name], f.width) for f in spec.item_multi_fields]
    item_multi = np.concatenate(blocks, axis=1)
    item_fields = np.stack([vocabularies[field.name].encode(items[field.name]) for field in spec.item_fields], axis=1)
    prior = ItemPrior.load(feature_data_path)
    values, new = prior.values, slice(len(prior.values), None)
    if len(items) > len(values):
        new_vectors = {name: table[new] for name, table in vectors.knowledge.items()}
        columns = item_columns(new_vectors, item_fields[new], item_multi[new], spec)
        values = np.concatenate([values, prior.predict(columns)])
    return Extended(
        spec=spec,
        vectors=vectors,
        prior=ItemPrior(prior.weights, prior.intercept, values),
        user_fields=np.stack(
            [vocabularies[field.name].encode(users[field.name]) for field in spec.user_fields], axis=1
        ),
        item_fields=item_fields,
        item_multi=item_multi,
    )


def extended_set(
    dataset: Dataset,
    is_new: NDArray[np.bool_],
    split_path: Path,
    extended: Extended,
    config: PipelineConfig,
) -> tuple[TrainingSet, NDArray[np.int64], NDArray[np.int64]]:
    """Return all rows with features as of their own time, of which the model's train rows alone are known.

    New rows so have the state that test rows have, and the two can be compared. Where negatives are sampled, test rows
    and new rows get them by the same draw.

    Args:
        dataset: The grown dataset.
        is_new: bool (R,), rows that the model's dataset does not hold.
        split_path: Parts of the rows that it holds.
        extended: From `extend`.
        config: Label, negatives, shrinkage.

    Returns:
        The training set; positions of its test rows; positions of its new rows.

    Raises:
        ArtifactError: The split is of another dataset.
    """
    frame = _grown_split(dataset, is_new, split_path)
    rows = InteractionRows.of(dataset, frame)
    if (split_path / NEGATIVES_FILE).exists():
        drawn = sample_negatives(
            dataset.interactions(), frame, config.data.negatives.model_copy(update={"num_train": 0})
        )
        rows = rows.with_negatives(dataset, drawn)
    # Negatives stand behind the interactions; a user's state comes from the interactions alone.
    real = history_of(_first(rows, len(is_new)), extended.spec.label_kind)
    every = history_of(rows, extended.spec.label_kind)
    vectors, spec = extended.vectors, extended.spec
    shrinkage = config.features.interest_shrinkage
    training_set = TrainingSet(
        spec=spec,
        user_row=rows.user_row,
        item_row=rows.item_row,
        timestamp_us=rows.timestamp_us,
        value=rows.value,
        label=rows.label,
        split_code=rows.split_code,
        cold=rows.cold,
        state_row=rows.state_row,
        user_numeric=user_numeric_rows(real),
        user_interest=user_interest_rows(real, vectors.knowledge, shrinkage),
        user_history=np.zeros((len(is_new), 0), np.int32),
        item_numeric=item_numeric_rows(every, extended.prior),
        user_fields=extended.user_fields,
        item_fields=extended.item_fields,
        item_multi=extended.item_multi,
        knowledge=vectors.knowledge,
        item_numeric_now=item_numeric_now(real, extended.prior),
    )
    training_set.check()
    judged, new = rows.split_code == SPLIT_CODES[Split.TEST], is_new[rows.state_row]
    return training_set, np.flatnonzero(judged & ~new), np.flatnonzero(judged & new)


def _first(rows: InteractionRows, count: int) -> InteractionRows:
    return InteractionRows(**{name: array[:count] for name, array in vars(rows).items()})


def _grown_split(dataset: Dataset, is_new: NDArray[np.bool_], split_path: Path) -> pd.DataFrame:
    """Return the parts of a grown dataset: as they were, and test for what is new."""
    before, _ = load_split(split_path)
    if len(before) != int((~is_new).sum()):
        raise ArtifactError(
            "The split does not belong to the dataset that has grown.",
            expected=f"{int((~is_new).sum())} rows",
            got=f"{len(before)} rows",
            fix="run again: lorefuse run",
        )
    part = np.full(len(is_new), str(Split.TEST), dtype=object)
    # Both are in order of time, user and item, so the rows that were there stand in the order they stood in.
    part[~is_new] = before[SPLIT].to_numpy()
    events = dataset.interactions()
    train_items = set(events[ITEM_ID].to_numpy()[part == Split.TRAIN])
    cold = ~events[ITEM_ID].isin(train_items).to_numpy()
    return pd.DataFrame({ROW_ID: events[ROW_ID].to_numpy(), SPLIT: part, COLD: cold})


def _extend_vectors(
    known: ItemVectors,
    embeddings_path: Path,
    vectors_path: Path,
    item_ids: list[str],
    config: KnowledgeConfig | None,
) -> ItemVectors:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    num_known, num_items = known.num_items, len(item_ids)
    if num_items < num_known:
        raise ArtifactError("The dataset has lost items.", expected=f"at least {num_known}", got=str(num_items))
    try:
        arrays = load_file(str(embeddings_path / embed.ARRAYS_FILE))
        full, has_text = arrays["full"][num_known:], arrays["has_text"][num_known:]
    except (OSError, KeyError, SafetensorError) as error:
        raise ArtifactError(f"{embeddings_path} holds no complete embeddings.", got=str(error)) from None
    if len(full) != num_items - num_known:
        raise ArtifactError("The embeddings are of another dataset.", got=f"{len(full) + num_known} items")
    new = {block.name: np.zeros((len(full), block.dim), dtype=np.float32) for block in known.blocks}
    if TEXT in new and (vectors_path / REDUCER_FILE).exists():
        new[TEXT] = Reducer.load(vectors_path).transform(full, has_text)
    if config is not None:
        new |= more_items(item_ids[num_known:], config, vectors_path)
    knowledge = {name: np.concatenate([table, new[name]]) for name, table in known.knowledge.items()}
    return ItemVectors(num_items, knowledge, known.facts)
