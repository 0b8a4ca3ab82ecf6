"""Does a view of the order of likes pay (`sasrec` in `candidates.views`)? The blend with it against the blend without.

Both blends are learned from one half of the validation users and judged on the other, without a ranker, as which either
is served with the same one. SASRec itself is stopped by validation likes of both halves, so its gain is a little
flattered.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig
from lorefuse.config.candidates import ViewName
from lorefuse.core.schema import Split
from lorefuse.lists.moments import Moments
from lorefuse.training_set.arrays import TrainingSet

MIN_USERS = 100
"""Users to judge by; with fewer no interval would leave out zero."""
NUM_BOOTSTRAPS = 200
K = 10
VIEW: ViewName = "sasrec"


@dataclass(frozen=True)
class SequenceTask:
    """Where the rows and the full text vectors are, and the configuration that won."""

    rows_path: str
    embeddings_path: str
    config: PipelineConfig
    seed: int


def try_sequence(task: SequenceTask) -> dict[str, Any]:
    """Return `taken`, `why`, and where it was measured `gain` in NDCG@10 with its 95 % interval, and `ndcg` of both."""
    from lorefuse.lists.judge import gains, user_values
    from lorefuse.training.pool import load_training_set

    start_s = time.perf_counter()
    training_set = load_training_set(task.rows_path)
    if not _learns_candidates(training_set, task.config):
        return {"taken": False, "why": "no list of candidates is learned here"}
    lists = _both_lists(training_set, task)
    if lists is None:
        return {"taken": False, "why": f"fewer than {2 * MIN_USERS} validation users with a like"}
    judged, plain, sequence = lists
    values = {name: user_values(shown, judged, K, K) for name, shown in (("with", sequence), ("without", plain))}
    name = f"ndcg_at_{K}_all"
    gain = gains({name: values["with"][name]}, {name: values["without"][name]}, NUM_BOOTSTRAPS)[name]
    taken = gain["low"] > 0
    return {
        "taken": taken,
        "why": f"judged on {len(judged):,} validation users that the blend was not learned from",
        "gain": gain,
        "ndcg": {key: float(np.nanmean(value[name])) for key, value in values.items()},
        "train_s": round(time.perf_counter() - start_s, 1),
    }


def _learns_candidates(training_set: TrainingSet, config: PipelineConfig) -> bool:
    """Tell whether a blend will be learned, as `lists.run.wants_candidates` does of rows that have a test part."""
    from lorefuse.lists.run import like_threshold

    if config.candidates.mode != "auto":
        return config.candidates.mode == "blend"
    liked = training_set.label >= like_threshold(training_set)
    has_likes = all(liked[training_set.rows_of(part)].any() for part in (Split.TRAIN, Split.VALIDATION))
    return has_likes and config.serving.retrieval.mode != "ann"


def _both_lists(
    training_set: TrainingSet, task: SequenceTask
) -> tuple[Moments, NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the users judged, their lists without and with the view; None where there are too few."""
    from lorefuse.lists.fit import fit, make_tables, taken_in_train, unfitted
    from lorefuse.lists.judge import make_lists
    from lorefuse.lists.knowledge import ItemKnowledge
    from lorefuse.lists.moments import moments_of
    from lorefuse.lists.readers import make_readers, with_encoded
    from lorefuse.lists.run import knowledge_blocks, like_threshold
    from lorefuse.lists.tables import collaborative_tables

    config, section = task.config, task.config.candidates
    threshold, kind = like_threshold(training_set), training_set.spec.label_kind
    users = moments_of(training_set, Split.VALIDATION, section.history_length, threshold)
    users = users.thinned(2 * section.num_fit_users)
    if len(users) < 2 * MIN_USERS:
        return None
    taken_UN = taken_in_train(training_set)
    blocks = knowledge_blocks(training_set, "real", Path(task.embeddings_path), config, task.seed)
    knowledge = ItemKnowledge.of(taken_UN, blocks, section)
    tables = make_tables(collaborative_tables(taken_UN, section), knowledge, section)
    num_returned = min(config.serving.max_k, len(training_set.item_fields))
    plain = make_readers(training_set, taken_UN, knowledge, config, threshold, task.seed)
    alone = config.model_copy(update={"candidates": section.model_copy(update={"views": (VIEW,)})})
    views = plain | make_readers(training_set, taken_UN, knowledge, alone, threshold, task.seed)
    shown = []
    for readers in (plain, views):
        learned, judged = halves(with_encoded(users, readers), task.seed)
        start = unfitted(tables, taken_UN, section, num_returned, kind, readers)
        stages = fit(start, learned, section, task.seed)
        who = "with the order of likes" if VIEW in readers else "without it"
        shown.append(make_lists(stages.two_stage(), judged, None, K, who))
    return halves(users, task.seed)[1], shown[0], shown[1]


def halves(users: Moments, seed: int) -> tuple[Moments, Moments]:
    """Return two halves of some users, drawn by a seed."""
    order = np.random.default_rng(seed).permutation(len(users))
    middle = len(order) // 2
    return users.chosen(np.sort(order[:middle])), users.chosen(np.sort(order[middle:]))
