"""Who is served well, and what is shown: lists by groups of users, and by how popular the shown items are.

Suffixes: ``U`` users judged, ``K`` ranks, ``N`` items of the catalogue, ``G`` groups of users, ``S`` resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.schema import SPLIT_CODES, Split
from lorefuse.lists.moments import Moments
from lorefuse.retrieval.metrics import NOTHING, Array, user_metrics
from lorefuse.training.compare import MIN_USERS
from lorefuse.training_set.arrays import TrainingSet

POPULARITY = ("head", "torso", "tail", "new")
"""Groups of items, see `popularity_groups`."""
HEAD_SHARE, TAIL_SHARE = 0.2, 0.2
ACTIVITY = ("least active", "middle", "most active")
MAX_GROUPS = 30
"""Groups of a column that are told apart, the largest; what is left over is one more."""
REST = "small groups"
Groups = tuple[NDArray[np.int64], list[str]]
"""Group of each user, (U,), and the groups' names."""


def group_figures(
    lists: Mapping[str, NDArray[np.int64]],
    served: str,
    moments: Moments,
    training_set: TrainingSet,
    values: Mapping[str, Sequence[str]],
    *,
    k: int,
    recall_k: int,
    num_bootstraps: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how well groups of users are served, and how popular what they are shown is beside what they had.

    Args:
        lists: By name, what each user is shown, (U, at least recall_k).
        served: Name of the list that users will see: the one that is looked at by groups of users.
        moments: Whose lists they are.
        training_set: The rows, for how active users are and which columns describe them.
        values: By user field its values from index 1 on; a field that is not there has numbers for names.
        k: Cut of NDCG and of what counts as shown.
        recall_k: Cut of recall.
        num_bootstraps: Resamples of users.
        seed: Of the resampling.

    Returns:
        ``items``: by list, for head, torso, tail and new items the shares ``exposure`` (of the first k ranks),
        ``consumption`` (of what the user had liked in train) and ``difference``, exposure − consumption;
        ``num_items`` of each. ``users``: by column, for each group its name, num_users, ``ndcg``, ``recall`` (over all
        likes of the judged part), ``ndcg_minus_rest`` and ``recall_minus_rest``, and ``exposure_<group of items>`` and
        ``consumption_<group of items>``; groups of fewer than `MIN_USERS` users are left out. Each figure has mean, low
        and high: a 95 % percentile interval over users, drawn whole and the same draws for all.

    Source: bootstrap: Efron & Tibshirani 1993, chapter 13. Exposure beside each user's own consumption: Abdollahpouri
    et al. 2019, arXiv:1907.13286 (there as group average popularity).
    """
    item_group_N = popularity_groups(moments.data.train)
    consumed_UG = consumption_shares(csr_array(moments.data.train[moments.users]), item_group_N)
    shown_UG = {name: exposure_shares(shown[:, :k], item_group_N) for name, shown in lists.items()}
    weight_SU = _draws(len(moments), num_bootstraps, seed)
    shares = {name: _item_rows(shown, consumed_UG, weight_SU) for name, shown in shown_UG.items()}
    quality = {
        "ndcg": user_metrics(lists[served], moments.all, k)["ndcg"],
        "recall": user_metrics(lists[served], moments.all, recall_k)["recall"],
    }
    for number, group in enumerate(POPULARITY):
        quality |= {f"exposure_{group}": shown_UG[served][:, number], f"consumption_{group}": consumed_UG[:, number]}
    columns = {
        column: _user_rows(group_U, names, quality, weight_SU)
        for column, (group_U, names) in user_groups(moments, training_set, values)
    }
    num_items = np.bincount(item_group_N, minlength=len(POPULARITY)).tolist()
    return {"num_items": dict(zip(POPULARITY, num_items, strict=True)), "items": shares, "users": columns}


def popularity_groups(train_UN: csr_array) -> NDArray[np.int64]:
    """Return which of `POPULARITY` each item belongs to, (N,).

    By likes in train, most liked first (ties by their place in the catalogue): head are the items that begin within
    the first fifth of all likes, tail those that begin within the last fifth, torso those between; new are items
    without a like in train.

    Args:
        train_UN: Likes of train.

    Source: Abdollahpouri et al. 2021, arXiv:2103.06364, section 3.1 (H, M and T of 20, 60 and 20 % of the ratings).

    Example:
        >>> popularity_groups(csr_array(np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0]]))).tolist()
        [0, 1, 3, 2]
    """
    count_N = np.bincount(train_UN.indices, minlength=train_UN.shape[1])
    order = np.argsort(-count_N, kind="stable")
    before = np.cumsum(count_N[order]) - count_N[order]
    total = max(int(count_N.sum()), 1)
    group = np.where(before < HEAD_SHARE * total, 0, np.where(before < (1 - TAIL_SHARE) * total, 1, 2))
    group_N = np.empty(len(count_N), np.int64)
    group_N[order] = group
    group_N[count_N == 0] = POPULARITY.index("new")
    return group_N


def exposure_shares(shown_UK: NDArray[np.int64], item_group_N: NDArray[np.int64]) -> Array:
    """Return each user's shares of what is shown by group of items, (U, groups); NaN where nothing is shown."""
    is_shown_UK = shown_UK != NOTHING
    group_UK = item_group_N[np.where(is_shown_UK, shown_UK, 0)]
    counts = [((group_UK == number) & is_shown_UK).sum(axis=1) for number in range(len(POPULARITY))]
    return _shares(np.stack(counts, axis=1))


def consumption_shares(liked_UN: csr_array, item_group_N: NDArray[np.int64]) -> Array:
    """Return each user's shares of what was liked by group of items, (U, groups); NaN where nothing was."""
    users = np.repeat(np.arange(liked_UN.shape[0]), np.diff(liked_UN.indptr))
    places = users * len(POPULARITY) + item_group_N[liked_UN.indices]
    return _shares(np.bincount(places, minlength=liked_UN.shape[0] * len(POPULARITY)).reshape(-1, len(POPULARITY)))


def user_groups(
    moments: Moments, training_set: TrainingSet, values: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Groups]]:
    """Yield each way to group the judged users: by every categorical column but the id, and by how active they were.

    ``activity`` is by thirds of the judged users' numbers of train rows; a number goes to one third whole.
    """
    for place, field in enumerate(training_set.spec.user_fields[1:], start=1):
        code_U = moments.fields[:, place]
        names = values.get(field.name, [f"#{number}" for number in range(1, field.size)])
        if len(np.unique(code_U)) > 1:
            yield field.name, largest(code_U, ["unknown", *names])
    real = slice(0, training_set.num_states)
    is_train = training_set.split_code[real] == SPLIT_CODES[Split.TRAIN]
    num_rows = np.bincount(training_set.user_row[real][is_train], minlength=len(training_set.user_fields))
    count_U = num_rows[moments.users]
    edges = np.quantile(count_U, [1 / 3, 2 / 3], method="inverted_cdf")
    group_U = (count_U[:, None] > edges).sum(axis=1)
    names = []
    for number, name in enumerate(ACTIVITY):
        mine = count_U[group_U == number]
        names.append(f"{name}, {mine.min()}–{mine.max()} rows" if len(mine) else name)
    yield "activity", (group_U, names)


def largest(code_U: NDArray[np.int64], names: Sequence[str]) -> Groups:
    """Return the groups of a column in the order of its values; small ones, and those beyond `MAX_GROUPS`, become one.

    Small are those of fewer than `MIN_USERS` users: they prove nothing, and what is said of one is said of somebody.

    Args:
        code_U: Index of each user's value.
        names: Of the indices.
    """
    found, count = np.unique(code_U, return_counts=True)
    by_size = np.argsort(-count, kind="stable")[:MAX_GROUPS]
    kept = np.sort(found[by_size[count[by_size] >= MIN_USERS]])
    place = np.searchsorted(kept, code_U)
    return np.where(np.isin(code_U, kept), place, len(kept)), [*(names[code] for code in kept), REST]


def _item_rows(shown_UG: Array, consumed_UG: Array, weight_SU: Array) -> dict[str, Any]:
    rows = {}
    for number, group in enumerate(POPULARITY):
        shown_U, consumed_U = shown_UG[:, number], consumed_UG[:, number]
        parts = {"exposure": shown_U, "consumption": consumed_U, "difference": shown_U - consumed_U}
        rows[group] = {name: _estimate(value_U, np.isfinite(value_U), weight_SU) for name, value_U in parts.items()}
    return rows


def _user_rows(
    group_U: NDArray[np.int64], names: Sequence[str], values: Mapping[str, Array], weight_SU: Array
) -> list[dict[str, Any]]:
    rows = []
    for number, name in enumerate(names):
        is_mine = group_U == number
        if is_mine.sum() < MIN_USERS:
            continue
        row: dict[str, Any] = {"name": name, "num_users": int(is_mine.sum())}
        for metric, value_U in values.items():
            known = np.isfinite(value_U)
            row[metric] = _estimate(value_U, is_mine & known, weight_SU)
            if metric in ("ndcg", "recall"):
                row[f"{metric}_minus_rest"] = _estimate(value_U, is_mine & known, weight_SU, ~is_mine & known)
        rows.append(row)
    return rows


def _estimate(
    value_U: Array, is_in: NDArray[np.bool_], weight_SU: Array, is_other: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Return the mean of some users, less that of others where they are given, and its 95 % interval."""
    parts = [is_in] if is_other is None else [is_in, is_other]
    if not all(part.any() for part in parts):
        return dict.fromkeys(("mean", "low", "high"), float("nan"))
    means = [float(value_U[part].mean()) for part in parts]
    mean = means[0] - sum(means[1:])
    if min(int(part.sum()) for part in parts) < MIN_USERS:
        return {"mean": mean, "low": float("nan"), "high": float("nan")}
    with np.errstate(invalid="ignore"):  # a resample may hold nobody of a small group
        drawn = [weight_SU[:, part] @ value_U[part] / weight_SU[:, part].sum(axis=1) for part in parts]
    low, high = np.nanquantile(drawn[0] - sum(drawn[1:]), [0.025, 0.975])
    return {"mean": mean, "low": float(low), "high": float(high)}


def _draws(num_users: int, num_bootstraps: int, seed: int) -> Array:
    """Return how often each user is in each resample, (S, U)."""
    share_U = np.full(num_users, 1 / num_users)
    return np.random.default_rng(seed).multinomial(num_users, share_U, size=num_bootstraps).astype(np.float64)


def _shares(count_UG: NDArray[np.integer]) -> Array:
    total_U1 = count_UG.sum(axis=1, keepdims=True)
    return np.where(total_U1 > 0, count_UG / np.maximum(total_U1, 1), np.nan)
