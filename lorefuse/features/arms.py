"""Arms of an experiment: the same rows and the same model, given other knowledge.

Everything that is made of item vectors (interest, prior, residual) is computed anew from what the arm is given, by the
code that made the real ones; everything else stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import Arm, FeatureConfig
from lorefuse.config.learning import ONLY
from lorefuse.core.schema import CONTEXT_TEXT, GRAPH, TEXT, Split
from lorefuse.features.aggregates import unit_rows
from lorefuse.features.history import every_row_of, interactions_of
from lorefuse.features.interest import InterestStates
from lorefuse.features.prior import prior_columns
from lorefuse.features.profile import USER_TEXT_FACETS
from lorefuse.features.rows import (
    Interactions,
    interest_facets,
    item_numeric_now,
    item_numeric_rows,
    item_prior,
    multi_offsets,
    user_interest_rows,
)
from lorefuse.training_set.arrays import TrainingSet
from lorefuse.training_set.lazy_states import Interest
from lorefuse.training_set.spec import InterestFacet, KnowledgeBlock

Vectors = NDArray[np.float32]
MAX_HELD_BYTES = 1 << 27
"""Interest states of an arm up to this size are held as an array."""


def with_knowledge(training_set: TrainingSet, arm: Arm, config: FeatureConfig, seed: int = 0) -> TrainingSet:
    """Return the training set with an arm's knowledge in place of the real one.

    Args:
        training_set: With the real vectors.
        arm: What the items are given:

            * ``real``: their own vectors, as they are;
            * ``none``: no vectors; ids, side features and statistics only;
            * ``categories``: their own categories as vectors, the fair control for text that repeats them;
            * ``shuffled``: another item's vectors, so that size and distribution stay and meaning goes; what users
              asked is given to other rows;
            * ``random``: Gaussian vectors;
            * ``<block>_only``, e.g. ``text_only``: one knowledge block.
        config: How interest and prior are made.
        seed: Of the shuffle and the random vectors.
    """
    if arm == "real":
        return training_set
    knowledge = _vectors(training_set, arm, np.random.default_rng(1000 + seed))
    spec = training_set.spec
    history = interactions_of(training_set)
    prior = item_prior(
        history,
        knowledge,
        training_set.item_fields,
        training_set.item_multi,
        spec,
        shrinkage=config.prior_shrinkage,
        num_folds=config.num_prior_folds,
    )
    blocks = tuple(KnowledgeBlock(name=name, dim=vectors.shape[1]) for name, vectors in knowledge.items())
    facets = interest_facets({block.name: block.dim for block in blocks})
    more = training_set.user_interest[:, :0]
    if arm == "text_only":
        # Text about the user is text. Other arms do without: it speaks of the real items.
        texts, columns = _user_texts(training_set, (*USER_TEXT_FACETS, CONTEXT_TEXT))
        facets, more = facets + texts, columns
    elif arm in ("shuffled", "random"):
        # What was asked is shuffled as well: with its own text a control would still know what the user wants.
        texts, columns = _user_texts(training_set, (CONTEXT_TEXT,))
        order = np.random.default_rng(2000 + seed).permutation(len(columns))
        facets, more = facets + texts, columns[order]
    return dataclasses.replace(
        training_set,
        spec=spec.model_copy(update={"knowledge": blocks, "interest": facets}),
        knowledge=knowledge,
        user_interest=_interest(history, knowledge, config.interest_shrinkage, more),
        item_numeric=item_numeric_rows(every_row_of(training_set), prior),
        item_numeric_now=item_numeric_now(history, prior),
    )


def _interest(history: Interactions, knowledge: Mapping[str, Vectors], shrinkage: float, more: Vectors) -> Interest:
    """Return the states as an array where they are few, which reads them faster than they are made, or as a promise."""
    states = InterestStates.of(history, tuple(knowledge.values()), shrinkage, more)
    num_states, width = states.shape
    if 4 * num_states * width > MAX_HELD_BYTES:
        return states
    return np.concatenate([user_interest_rows(history, knowledge, shrinkage), more], axis=1)


def _user_texts(training_set: TrainingSet, names: tuple[str, ...]) -> tuple[tuple[InterestFacet, ...], Vectors]:
    """Return those of the named facets that there are, and their columns."""
    facets, blocks, start = [], [training_set.user_interest[:, :0]], 0
    for facet in training_set.spec.interest:
        if facet.name in names:
            facets.append(facet)
            blocks.append(training_set.user_interest[:, start : start + facet.dim])
        start += facet.dim
    return tuple(facets), np.concatenate(blocks, axis=1)


def _vectors(training_set: TrainingSet, arm: Arm, rng: np.random.Generator) -> dict[str, Vectors]:
    real = training_set.knowledge
    if arm == "none":
        return {}
    if arm == "categories":
        flags = _category_vectors(training_set)
        return {TEXT: flags} if flags.shape[1] else {}
    if arm.endswith(ONLY):
        return {name: vectors for name, vectors in real.items() if name == arm.removesuffix(ONLY)}
    if arm == "shuffled":
        order = rng.permutation(training_set.num_items)
        return {name: vectors[order] for name, vectors in real.items()}
    return {name: _random_like(name, vectors, rng) for name, vectors in real.items()}


def _random_like(name: str, vectors: Vectors, rng: np.random.Generator) -> Vectors:
    """Return Gaussian vectors: of length 1 for the graph, whose own are, else of each column's deviation."""
    drawn = rng.standard_normal(vectors.shape)
    scaled: Vectors = unit_rows(drawn) if name == GRAPH else (drawn * vectors.std(0)).astype(np.float32)
    return scaled


def _category_vectors(training_set: TrainingSet) -> Vectors:
    """Flags of the item's categories, less their mean over train items; an item without any has no vector."""
    spec = training_set.spec
    flags = prior_columns(
        (),
        training_set.item_multi,
        training_set.item_fields[:, 1:],
        multi_offsets(spec),
        tuple(field.size for field in spec.item_fields[1:]),
    )
    is_train = np.zeros(len(flags), dtype=bool)
    is_train[training_set.item_row[training_set.rows_of(Split.TRAIN)]] = True
    present = np.abs(flags).sum(1, keepdims=True) > 0
    centred: Vectors = ((flags - flags[is_train].mean(0)) * present).astype(np.float32)
    return centred
