"""Fit the first stage of a served list: tables on train rows, the weights of their blend on validation likes.

Suffixes: ``U`` users, ``N`` items of the catalogue, ``M`` candidates, ``D`` width of vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.config.candidates import CandidatesConfig
from lorefuse.core.schema import Split
from lorefuse.lists.blend import collect, fit_blend
from lorefuse.lists.knowledge import ItemKnowledge
from lorefuse.lists.moments import Moments
from lorefuse.lists.order import BLEND_ALONE
from lorefuse.lists.stage_files import Fitted, ReaderParts
from lorefuse.lists.tables import content_table, with_new_items
from lorefuse.lists.two_stage import Candidates
from lorefuse.training_set.arrays import TrainingSet


def taken_in_train(training_set: TrainingSet) -> csr_array:
    """Return what each user took in train, liked or not, values 1, (U, N)."""
    rows = training_set.rows_of(Split.TRAIN)
    rows = rows[rows < training_set.num_states]
    shape = (len(training_set.user_fields), len(training_set.item_fields))
    pairs = (training_set.user_row[rows], training_set.item_row[rows])
    taken_UN = csr_array((np.ones(len(rows), np.float32), pairs), shape=shape)
    taken_UN.data[:] = 1.0  # a pair that was there twice had been added up
    return taken_UN


def make_tables(
    collaborative: Mapping[str, csr_array], knowledge: ItemKnowledge, config: CandidatesConfig
) -> dict[str, csr_array]:
    """Return all tables, with the new items in the place that knowledge gives them.

    Args:
        collaborative: From `tables.collaborative_tables`; the same for all arms.
        knowledge: What the arm knows of the items; nothing: new items stay out of all tables.
        config: Which tables. With given weights contents are no tables, see `readers`.
    """
    result, places = dict(collaborative), knowledge.places
    if places is not None:
        result = {name: with_new_items(table, places, config.num_neighbours) for name, table in result.items()}
    for name, vectors in knowledge.contents.items():
        if name in config.views and config.weights is None:
            result[name] = content_table(vectors, config)
    return result


def unfitted(
    tables: Mapping[str, csr_array],
    taken_UN: csr_array,
    config: CandidatesConfig,
    num_returned: int,
    label_kind: str,
    readers: Mapping[str, ReaderParts] | None = None,
) -> Fitted:
    """Return stages with the weights that are given; without any, popularity alone orders them.

    Args:
        tables: By name.
        taken_UN: What users took in train.
        config: Signals and sizes.
        num_returned: Most items of an answer.
        label_kind: ``binary`` or ``regression``.
        readers: Views that read a whole past, by name.
    """
    readers = readers or {}
    count_N = np.bincount(taken_UN.indices, minlength=taken_UN.shape[1])
    log_count = np.log1p(count_N)
    arrays: dict[str, NDArray[Any]] = {
        "popularity": ((log_count - log_count.mean()) / max(float(log_count.std()), 1e-9)).astype(np.float32),
        "is_new": count_N == 0,
    }
    for name, table in tables.items():
        table.sort_indices()
        arrays[f"{name}.indptr"] = table.indptr.astype(np.int64)
        arrays[f"{name}.indices"] = table.indices.astype(np.int32)
        arrays[f"{name}.values"] = table.data.astype(np.float32)
    for name, parts in readers.items():
        arrays |= {f"{name}.{key}": array for key, array in parts.arrays.items()}
    signals = [["liked", half_life] for half_life in config.half_lives] + [["seen", config.half_lives[0]]]
    if config.weights is not None:
        signals = signals[:1]
    names = [*tables, *readers] if config.weights is not None else []
    num_scores = len(tables) * len(signals) + len(readers)
    arrays |= _given_weights(names, num_scores, {str(name): weight for name, weight in (config.weights or {}).items()})
    facts = {
        "tables": list(tables),
        "signals": signals,
        "readers": {name: parts.facts for name, parts in readers.items()},
        "history_length": config.history_length,
        "num_candidates": config.num_candidates,
        "num_returned": num_returned,
        "label_kind": label_kind,
        "num_items": taken_UN.shape[1],
        "final": dict(BLEND_ALONE),
    }
    return Fitted(arrays, facts)


def _given_weights(
    names: Sequence[str], num_scores: int, weights: Mapping[str, float]
) -> dict[str, NDArray[np.float32]]:
    """Return weights and biases of z-scores alone; popularity is all where no view of a weight could be made."""
    given = np.zeros((2, 2 * num_scores), np.float32)
    for place, name in enumerate(names):
        given[:, place] = weights[name]
    popular = weights.get("popularity", 0.0) if given.any() or "popularity" in weights else 1.0
    return {"weights": given, "biases": np.array([popular, 0, 0, 0], np.float32)}


def fit(start: Fitted, validation: Moments, config: CandidatesConfig, seed: int) -> Fitted:
    """Return the stages with the blend's weights, learned from validation likes where none are given.

    Args:
        start: From `unfitted`.
        validation: Validation users with likes to find.
        config: Penalty, and most users.
        seed: Of the draws.
    """
    if config.weights is not None:
        return start
    candidates = Candidates(start.arrays, start.facts)
    examples = collect(candidates, validation.thinned(config.num_fit_users), seed)
    weights, biases = fit_blend(examples, config.l2, num_threads=2)
    return Fitted({**start.arrays, "weights": weights, "biases": biases}, start.facts)
