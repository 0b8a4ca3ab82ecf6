"""Arms of an experiment: the same rows and the same model, given other knowledge.

Everything that is made of item vectors (interest, prior, residual) is computed anew from what the arm is given, by the
code that made the real ones; everything else stays as it is.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import Arm, FeatureConfig
from lorefuse.core.schema import CONTEXT_TEXT, Split
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
from lorefuse.training_set.spec import InterestFacet

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
            * ``text_only``, ``graph_only``: one of the two.
        config: How interest and prior are made.
        seed: Of the shuffle and the random vectors.
    """
    if arm == "real":
        return training_set
    text, graph = _vectors(training_set, arm, np.random.default_rng(1000 + seed))
    spec = training_set.spec
    history = interactions_of(training_set)
    prior = item_prior(
        history,
        text,
        graph,
        training_set.item_fields,
        training_set.item_multi,
        spec,
        shrinkage=config.prior_shrinkage,
        num_folds=config.num_prior_folds,
    )
    text_dim, graph_dim = text.shape[1], graph.shape[1]
    facets = interest_facets(text_dim, graph_dim)
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
        spec=spec.model_copy(update={"text_dim": text_dim, "graph_dim": graph_dim, "interest": facets}),
        item_text=text,
        item_graph=graph,
        user_interest=_interest(history, text, graph, config.interest_shrinkage, more),
        item_numeric=item_numeric_rows(every_row_of(training_set), prior),
        item_numeric_now=item_numeric_now(history, prior),
    )


def _interest(history: Interactions, text: Vectors, graph: Vectors, shrinkage: float, more: Vectors) -> Interest:
    """Return the states as an array where they are few, which reads them faster than they are made, or as a promise."""
    states = InterestStates.of(history, (text, graph), shrinkage, more)
    num_states, width = states.shape
    if 4 * num_states * width > MAX_HELD_BYTES:
        return states
    return np.concatenate([user_interest_rows(history, text, graph, shrinkage), more], axis=1)


def _user_texts(training_set: TrainingSet, names: tuple[str, ...]) -> tuple[tuple[InterestFacet, ...], Vectors]:
    """Return those of the named facets that there are, and their columns."""
    facets, blocks, start = [], [training_set.user_interest[:, :0]], 0
    for facet in training_set.spec.interest:
        if facet.name in names:
            facets.append(facet)
            blocks.append(training_set.user_interest[:, start : start + facet.dim])
        start += facet.dim
    return tuple(facets), np.concatenate(blocks, axis=1)


def _vectors(training_set: TrainingSet, arm: Arm, rng: np.random.Generator) -> tuple[Vectors, Vectors]:
    text, graph = training_set.item_text, training_set.item_graph
    nothing = text[:, :0]
    if arm == "none":
        return nothing, nothing
    if arm == "categories":
        return _category_vectors(training_set), nothing
    if arm == "text_only":
        return text, nothing
    if arm == "graph_only":
        return nothing, graph
    if arm == "shuffled":
        order = rng.permutation(len(text))
        return text[order], graph[order]
    scale = text.std(0) if len(text) else 1.0
    random_text = (rng.standard_normal(text.shape) * scale).astype(np.float32)
    return random_text, unit_rows(rng.standard_normal(graph.shape))


def _category_vectors(training_set: TrainingSet) -> Vectors:
    """Flags of the item's categories, less their mean over train items; an item without any has no vector."""
    spec, empty = training_set.spec, training_set.item_text[:, :0]
    flags = prior_columns(
        empty,
        empty,
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
