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
from lorefuse.contract import Split
from lorefuse.features.training_set import TrainingSet
from lorefuse.lists import tables as t
from lorefuse.lists.blend import collect, fit_blend
from lorefuse.lists.moments import Moments
from lorefuse.lists.order import BLEND_ALONE
from lorefuse.lists.stage_files import Fitted
from lorefuse.lists.two_stage import Candidates


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
    taken_UN: csr_array,
    collaborative: Mapping[str, csr_array],
    blocks: Sequence[t.Vectors],
    config: CandidatesConfig,
) -> dict[str, csr_array]:
    """Return all tables, with the new items in the place that knowledge gives them.

    Args:
        taken_UN: What users took in train.
        collaborative: From `tables.collaborative_tables`; the same for all arms.
        blocks: What is known about the items, (N, ·) each; none: new items stay out of all tables.
        config: Which tables.
    """
    known_N = np.bincount(taken_UN.indices, minlength=taken_UN.shape[1]) > 0
    vectors = t.knowledge_vectors(blocks, known_N)
    result = dict(collaborative)
    if vectors is None:
        return result
    if config.new_item_neighbours and not known_N.all():
        places = t.new_item_places(vectors, known_N, config.new_item_neighbours)
        result = {name: t.with_new_items(table, places, config.num_neighbours) for name, table in result.items()}
    if "content" in config.tables:
        result["content"] = t.content_table(vectors, config)
    return result


def unfitted(
    tables: Mapping[str, csr_array],
    taken_UN: csr_array,
    config: CandidatesConfig,
    num_returned: int,
    label_kind: str,
    item_vectors: Mapping[str, t.Vectors] | None = None,
) -> Fitted:
    """Return stages without weights: popularity alone orders them.

    Args:
        tables: By name.
        taken_UN: What users took in train.
        config: Signals and sizes.
        num_returned: Most items of an answer.
        label_kind: ``binary`` or ``regression``.
        item_vectors: Of the recommenders by vectors, (N, D) each, by name.
    """
    item_vectors = item_vectors or {}
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
    signals = [["liked", half_life] for half_life in config.half_lives] + [["seen", config.half_lives[0]]]
    arrays |= {f"{name}.items": np.asarray(vectors, np.float32) for name, vectors in item_vectors.items()}
    num_scores = len(tables) * len(signals) + len(item_vectors)
    arrays |= {"weights": np.zeros((2, 2 * num_scores), np.float32), "biases": np.array([1, 0, 0, 0], np.float32)}
    facts = {
        "tables": list(tables),
        "vectors": list(item_vectors),
        "signals": signals,
        "history_length": config.history_length,
        "num_candidates": config.num_candidates,
        "num_returned": num_returned,
        "label_kind": label_kind,
        "num_items": taken_UN.shape[1],
        "final": dict(BLEND_ALONE),
    }
    return Fitted(arrays, facts)


def fit(start: Fitted, validation: Moments, config: CandidatesConfig, seed: int) -> Fitted:
    """Return the stages with the blend's weights, learned from validation likes.

    Args:
        start: From `unfitted`.
        validation: Validation users with likes to find.
        config: Penalty, and most users.
        seed: Of the draws.
    """
    candidates = Candidates(start.arrays, start.facts)
    examples = collect(candidates, validation.thinned(config.num_fit_users), seed)
    weights, biases = fit_blend(examples, config.l2, num_threads=2)
    return Fitted({**start.arrays, "weights": weights, "biases": biases}, start.facts)
