"""Hold the exported graphs to torch: scores within 1e-5, and the same ten items in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorefuse.core.errors import ArtifactError
from lorefuse.core.schema import Tensor
from lorefuse.export.retrieve import ITEM_SIDE
from lorefuse.export.session import open_session
from lorefuse.models.ranker import Ranker

TOLERANCE = 1e-5
"""Largest difference of a score, absolute for probabilities, relative to the score for values above 1."""
TOP, NUM_USERS = 10, 8
ITEMS_AT_A_TIME = 2048


def check_ranker(path: Path, ranker: Ranker, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Compare the ranker's graph with torch on reference rows.

    Returns:
        num_reference_rows and max_score_difference.

    Raises:
        ArtifactError: They differ by more than `TOLERANCE`.
    """
    with torch.no_grad():
        logits = ranker(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        expected = ranker.to_score(logits).numpy()
    got = open_session(path).run([Tensor.SCORE.value], dict(inputs))[0]
    difference = score_difference(expected, got)
    _hold("ranker", difference)
    return {"num_reference_rows": len(expected), "max_score_difference": difference}


@torch.no_grad()
def check_candidates(
    side_path: Path, ranker_path: Path, ranker: Ranker, inputs: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Compare what scores candidates with torch: each of the reference rows' users with all of their items.

    Returns:
        max_candidate_difference.

    Raises:
        ArtifactError: They differ by more than `TOLERANCE`.
    """
    users, items = ranker.user_inputs, ranker.item_inputs
    num_users = min(NUM_USERS, len(inputs[users[0]]))
    (side,) = open_session(side_path).run(None, {name: inputs[name] for name in items})
    asked = {name: inputs[name][:num_users] for name in users}
    got = open_session(ranker_path).run([Tensor.SCORE.value], {**asked, ITEM_SIDE: side})[0]
    rows = {name: torch.from_numpy(array) for name, array in inputs.items()}
    repeated = [
        {name: rows[name][user : user + 1].expand_as(rows[name]) for name in users} for user in range(num_users)
    ]
    expected = np.stack([ranker.to_score(ranker(**{**rows, **one})).numpy() for one in repeated])
    difference = score_difference(expected, got)
    _hold("candidate ranker", difference)
    return {"max_candidate_difference": difference}


@torch.no_grad()
def check_catalogue_ranker(
    path: Path, ranker: Ranker, catalogue: Mapping[str, torch.Tensor], users: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Compare the catalogue ranker's graph with the ranker scoring every item of the catalogue, row by row.

    Two items whose scores differ by less than `TOLERANCE` may stand in either order.

    Args:
        path: The graph.
        ranker: The ranker.
        catalogue: Item tensors of all N items.
        users: User tensors with exclude_rows, U users.

    Returns:
        num_reference_users, max_catalogue_difference and identical_top (share of users with the very same top 10).

    Raises:
        ArtifactError: A top 10 or a score differs, or an excluded row came back.
    """
    got_rows, got_scores = open_session(path).run([Tensor.CATALOGUE_ROW.value, Tensor.SCORE.value], dict(users))
    num_users, identical, worst = len(got_rows), 0, 0.0
    for number in range(num_users):
        one = {name: torch.from_numpy(users[name][number : number + 1]) for name in ranker.user_inputs}
        logits = _row_by_row(ranker, one, catalogue)
        scores = ranker.to_score(logits).numpy()
        # The order is that of the logits, as in the graph: different logits may round to one probability.
        order_by = logits.numpy().copy()
        excluded = users[Tensor.EXCLUDE_ROWS.value][number]
        order_by[excluded[excluded >= 0]] = -np.inf
        rows = got_rows[number][got_rows[number] >= 0]
        top = np.argsort(-order_by, kind="stable")[: len(rows)]
        if np.isneginf(order_by[rows]).any() or len(set(rows)) != len(rows):
            raise ArtifactError("The exported catalogue ranker returned an excluded or repeated row.", got=str(rows))
        worst = max(
            worst,
            score_difference(scores[rows], got_scores[number][: len(rows)]),
            score_difference(scores[top], scores[rows]),
        )
        identical += bool((top[:TOP] == rows[:TOP]).all())
    _hold("catalogue ranker", worst)
    return {
        "num_reference_users": num_users,
        "max_catalogue_difference": worst,
        "identical_top": identical / num_users,
    }


def _row_by_row(ranker: Ranker, one: Mapping[str, torch.Tensor], catalogue: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of a user with every item, each a row of its own, (N,): not what the graph was made from."""
    names = list(catalogue)
    logits = []
    for blocks in zip(*(torch.split(catalogue[name], ITEMS_AT_A_TIME) for name in names), strict=True):
        repeated = {name: value.expand(len(blocks[0]), -1) for name, value in one.items()}
        logits.append(ranker(**repeated, **dict(zip(names, blocks, strict=True))))
    return torch.cat(logits)


def score_difference(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Return the largest |expected − got| / max(1, |expected|); infinite where shapes differ or a number is not one."""
    if expected.shape != got.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        same = expected == got  # equal infinities count as equal
        difference = np.where(same, 0.0, np.abs(expected - got) / np.maximum(1.0, np.abs(expected)))
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _hold(name: str, difference: float) -> None:
    if difference > TOLERANCE:
        raise ArtifactError(
            f"The exported {name} differs from torch.",
            expected=f"scores within {TOLERANCE:g}",
            got=f"a difference of {difference:.3g}",
            fix="report this as a bug, with the model's config",
        )
