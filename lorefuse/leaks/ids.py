"""What a user's embedding alone gives away: how well likes of train are recovered from it.

Suffixes: ``U`` users, ``N`` items, ``D`` id dim.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.config import PipelineConfig
from lorefuse.core.schema import Split
from lorefuse.models.field_ranker import FieldRanker
from lorefuse.models.ranker import Ranker
from lorefuse.training.row_metrics import Array
from lorefuse.training_set.arrays import TrainingSet


def id_exposure(
    ranker: Ranker,
    training_set: TrainingSet,
    member_rows: NDArray[np.int64],
    control_rows: NDArray[np.int64],
    config: PipelineConfig,
    num_users: int,
) -> tuple[Array, Array] | None:
    """Return each user's AUC of recovered likes, of rows that the ranker was trained on and of others, (U,) each.

    Items are ordered by the dot product of the user's embedding with theirs (their knowledge fused in, as the ranker
    crosses them). The AUC is the share of pairs of a like and an item that the user never had, in any part, in which
    the like comes first; only items with a train row count. NaN for a user without likes of that kind.

    Args:
        ranker: Trained.
        training_set: Whole; its tables give ids and knowledge.
        member_rows: Rows that the ranker was trained on.
        control_rows: Rows that it was not.
        config: From which value a row is a like.
        num_users: Users that are looked at, evenly spread over those with a train row.

    Returns:
        None for a ranker without embeddings of ids.
    """
    if not isinstance(ranker, FieldRanker) or not ranker.embedding_dim:
        return None
    train = training_set.rows_of(Split.TRAIN)
    users = np.unique(training_set.user_row[train]).astype(np.int64)
    users = users[np.linspace(0, len(users) - 1, min(num_users, len(users))).round().astype(np.int64)]
    items = np.unique(training_set.item_row[train]).astype(np.int64)
    score_UN = _scores(ranker, training_set, users, items)
    had_UN = _pairs(training_set, np.arange(training_set.num_states), users, items)
    threshold = 0.5 if training_set.spec.label_kind == "binary" else config.data.label.threshold
    found = []
    for rows in (member_rows, control_rows):
        liked = rows[(rows < training_set.num_states) & (training_set.label[rows] >= threshold)]
        found.append(recovered(score_UN, _pairs(training_set, liked, users, items), ~had_UN))
    return found[0], found[1]


def recovered(score_UN: Array, is_liked_UN: NDArray[np.bool_], is_other_UN: NDArray[np.bool_]) -> Array:
    """Return each user's share of pairs of a liked and another item in which the liked one scores higher, (U,).

    Ties count half; NaN where there is no such pair.
    """
    result = np.full(len(score_UN), np.nan)
    for number, (score, is_liked, is_other) in enumerate(zip(score_UN, is_liked_UN, is_other_UN, strict=True)):
        if is_liked.any() and is_other.any():
            others = np.sort(score[is_other])
            ends = [np.searchsorted(others, score[is_liked], side=side) for side in ("left", "right")]
            result[number] = (ends[0] + ends[1]).mean() / (2 * len(others))
    return result


@torch.no_grad()
def _scores(
    ranker: FieldRanker, training_set: TrainingSet, users: NDArray[np.int64], items: NDArray[np.int64]
) -> Array:
    device = next(ranker.parameters()).device
    user_index = torch.from_numpy(training_set.user_fields[users, 0]).to(device)
    fields = torch.from_numpy(training_set.item_fields[items]).to(device)
    knowledge = [torch.from_numpy(training_set.item_table(name)[items]).to(device) for name in ranker.fused_names]
    item_ND = ranker.item_vectors(fields, knowledge).sum(dim=1)
    scores: Array = (ranker.user_embedding.ids(user_index) @ item_ND.T).cpu().numpy().astype(np.float64)
    return scores


def _pairs(
    training_set: TrainingSet, rows: NDArray[np.int64], users: NDArray[np.int64], items: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which of some users have rows with which of some items, (U, N)."""
    places = []
    for chosen, of_rows in ((users, training_set.user_row[rows]), (items, training_set.item_row[rows])):
        place = np.minimum(np.searchsorted(chosen, of_rows), len(chosen) - 1)
        places.append(np.where(chosen[place] == of_rows, place, -1))
    known = (places[0] >= 0) & (places[1] >= 0)
    result = np.zeros((len(users), len(items)), bool)
    result[places[0][known], places[1][known]] = True
    return result
