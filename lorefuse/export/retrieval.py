"""Catalogues past one graph: two towers and an index find some hundred items for a user, the ranker puts them in order.

A bundle of this kind carries, in place of `catalogue_ranker.onnx`::

    two_tower.safetensors   both towers as arrays, with the vectors of all items
    items.faiss             the index of those vectors
    retrieval.json          how it is searched, and how much of the exact answer it finds
    item_side.onnx candidate_ranker.onnx   what scores the items that were found; see `candidates`

Suffixes: ``N`` items, ``U`` users, ``L`` history length, ``K`` returned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig, ServingConfig
from lorefuse.config.serving import ServedRetrievalConfig
from lorefuse.core.atomic import write_json
from lorefuse.core.errors import ArtifactError
from lorefuse.core.progress import track
from lorefuse.core.schema import Split, Tensor
from lorefuse.export.bundle import RETRIEVAL_FILE
from lorefuse.features.history import interactions_of, recent_liked
from lorefuse.models.ranker import Ranker
from lorefuse.retrieval.data import from_training_set
from lorefuse.retrieval.evaluate import ndcg_of
from lorefuse.retrieval.index import build_index, enough_probes, measure_recall, save_index, search
from lorefuse.retrieval.two_tower import TwoTower
from lorefuse.retrieval.vectors import TowerArrays, recency
from lorefuse.training_set.arrays import TrainingSet

TOP = 10
_PAIRS_PER_CHUNK, _SCORES_PER_VALIDATION = 32_768, 400_000_000


def export_retrieval(training_set: TrainingSet, config: PipelineConfig, out_path: Path) -> dict[str, Any]:
    """Train both towers on train rows, index all items, and hold the index to exact search.

    Returns:
        recall_at_<n>, num_judged, num_probes, num_retrieved.

    Raises:
        ArtifactError: Recall is below `serving.retrieval.min_recall`.
        DataError: There are no likes to train on, or none that are held out.
    """
    section, seed = config.serving.retrieval, config.training.seed
    half_life, num_items = config.retrieval.recency_half_life, len(training_set.item_fields)
    threshold = 0.5
    if training_set.spec.label_kind != "binary":
        threshold = float(training_set.label[training_set.rows_of(Split.TRAIN)].mean(dtype=np.float64))
    judged, validation = (
        from_training_set(training_set, threshold=threshold, judged=part, recency_half_life=half_life)
        for part in (Split.TEST, Split.VALIDATION)
    )
    max_users = min(4000, max(100, _SCORES_PER_VALIDATION // num_items))
    recommender = TwoTower(config.retrieval.two_tower, seed)
    recommender.fit(judged.train, judged.side, ndcg_of(validation, config.retrieval.k, max_users))
    arrays = TowerArrays.of(recommender, training_set)
    index = build_index(arrays.item_vectors, section.num_lists, seed, min_recall=section.min_recall)
    users = np.flatnonzero(np.diff(judged.warm.indptr) + np.diff(judged.cold.indptr))
    users = users[:: -(-len(users) // section.num_judged)]
    vectors = recommender.user_vectors(users, judged.history)
    num_retrieved = num_ranked(config.serving, num_items)
    # Chosen on every other user, judged on the rest.
    probes = section.num_probes or _probes(index, arrays, vectors[::2], num_retrieved, section)
    asked = vectors[1::2] if len(vectors) > 1 else vectors
    facts = hold_recall(index, arrays, asked, num_retrieved, probes, section.min_recall)
    arrays.save(out_path)
    save_index(index, out_path)
    history_length = config.features.history_length
    facts |= {"half_life": half_life, "history_length": history_length, "num_items": num_items}
    write_json(out_path / RETRIEVAL_FILE, facts)
    return facts


def num_ranked(serving: ServingConfig, num_items: int) -> int:
    """Return how many items are retrieved and ranked for a user."""
    return min(num_items, max(serving.retrieval.num_retrieved, serving.max_k))


def hold_recall(
    index: Any,
    arrays: TowerArrays,
    user_vectors: NDArray[np.float32],
    num_retrieved: int,
    num_probes: int,
    min_recall: float,
) -> dict[str, Any]:
    """Measure recall against exact search and refuse an index that finds too little.

    Returns:
        recall_at_<n>, num_judged, num_probes, num_retrieved.

    Raises:
        ArtifactError: Recall@num_retrieved is below `min_recall`; the message names what would reach it.
    """
    figures = measure_recall(index, arrays.item_vectors, user_vectors, num_retrieved, num_probes)
    recall = figures[f"recall_at_{num_retrieved}"]
    if recall < min_recall:
        wanted = enough_probes(index, arrays.item_vectors, user_vectors, num_retrieved, min_recall)
        raise ArtifactError(
            "The index of the catalogue finds too little.",
            expected=f"recall@{num_retrieved} of at least {min_recall:g} against exact search",
            got=f"{recall:.3f} for {len(user_vectors)} users, reading {num_probes} of {index.nlist} cells",
            fix=f"set serving.retrieval.num_probes to {wanted}, which reaches it and takes longer",
        )
    return {**figures, "num_judged": len(user_vectors), "num_probes": num_probes, "num_retrieved": num_retrieved}


def _probes(
    index: Any,
    arrays: TowerArrays,
    user_vectors: NDArray[np.float32],
    num_retrieved: int,
    section: ServedRetrievalConfig,
) -> int:
    """Return as few cells to read as reach the recall, with a margin for users who are not asked here."""
    aim = section.min_recall + (1 - section.min_recall) / 4
    wanted = enough_probes(index, arrays.item_vectors, user_vectors, num_retrieved, aim)
    # An index that reads more than a quarter of a large catalogue is none; of a small one much is retrieved anyway.
    share = max(1 / 4, 8 * num_retrieved / index.ntotal)
    return min(wanted, int(np.ceil(index.nlist * min(1.0, share))))


def reference_liked(training_set: TrainingSet, states: NDArray[np.integer], length: int) -> NDArray[np.int64]:
    """Return the catalogue rows of what users liked before some moments, newest first, -1 is padding, (U, L)."""
    oldest_first = recent_liked(interactions_of(training_set), length, states).astype(np.int64)
    return np.ascontiguousarray(oldest_first[:, ::-1] - 1)


@torch.no_grad()
def retrieve_and_rank(
    ranker: Ranker,
    catalogue: dict[str, torch.Tensor],
    arrays: TowerArrays,
    index: Any,
    users: dict[str, NDArray[Any]],
    facts: dict[str, Any],
    max_k: int,
) -> dict[str, NDArray[Any]]:
    """Answer as `retrieve` in Triton must: search, rank what was found, keep the best.

    Args:
        ranker: The ranker.
        catalogue: Item tensors of all N items, by name.
        arrays: Both towers.
        index: Of the same items.
        users: User tensors, exclude_rows and liked_rows.
        facts: Content of `retrieval.json`.
        max_k: K, most items returned.

    Returns:
        catalogue_row int64 (U, K) and score float32 (U, K), best first and the lower row first among equals; -1 and
        -inf fill up.
    """
    num_items = len(arrays.item_vectors)
    liked = users[Tensor.LIKED_ROWS.value]
    weights = np.broadcast_to(recency(liked.shape[1], facts["half_life"]), liked.shape)
    vectors = arrays.users(users[Tensor.USER_FIELDS.value], liked, weights)
    shape = (len(liked), min(max_k, num_items))
    rows_UK, scores_UK = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    for number, exclude in enumerate(users[Tensor.EXCLUDE_ROWS.value]):
        excluded = np.zeros(num_items, dtype=bool)
        excluded[exclude[exclude >= 0]] = True
        rows = search(index, vectors[number], excluded, facts["num_retrieved"], facts["num_probes"])
        scores = _scores(ranker, catalogue, users, number, rows)
        best = np.argsort(-scores, kind="stable")[: shape[1]]
        rows_UK[number, : len(best)], scores_UK[number, : len(best)] = rows[best], scores[best]
    return {Tensor.CATALOGUE_ROW.value: rows_UK, Tensor.SCORE.value: scores_UK}


@torch.no_grad()
def kept_of_top(
    ranker: Ranker, catalogue: dict[str, torch.Tensor], users: dict[str, NDArray[Any]], found: NDArray[np.integer]
) -> float:
    """Return the share of the ten items that the ranker puts first among all items which were found for ranking too.

    Args:
        ranker: The ranker.
        catalogue: Item tensors of all N items, by name.
        users: User tensors of U users.
        found: Best rows after retrieval without exclusions, (U, K).
    """
    tensors = {name: torch.from_numpy(users[name]) for name in ranker.user_inputs}
    side = ranker.encode_user(**tensors)
    num_items = len(next(iter(catalogue.values())))
    size = max(1, _PAIRS_PER_CHUNK // len(found))
    starts = range(0, num_items, size)
    logits = [
        ranker.cross_all(side, ranker.encode_item(**{k: v[start : start + size] for k, v in catalogue.items()}))
        for start in track(starts, "Ranking all items")
    ]
    best = torch.topk(torch.cat(logits, dim=1), min(TOP, num_items), dim=1).indices.numpy()
    return float(np.mean([np.isin(want, got).mean() for want, got in zip(best, found, strict=True)]))


def _scores(
    ranker: Ranker,
    catalogue: dict[str, torch.Tensor],
    users: dict[str, NDArray[Any]],
    number: int,
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    one = {name: torch.from_numpy(users[name][number : number + 1]) for name in ranker.user_inputs}
    repeated = {name: value.expand(len(rows), -1) for name, value in one.items()}
    chosen = {name: table[torch.from_numpy(rows)] for name, table in catalogue.items()}
    return np.asarray(ranker.to_score(ranker(**repeated, **chosen)).numpy())
