"""Recommenders joined: each scores the catalogue, and their scores or their ranks are added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.errors import UsageError
from lorefuse.core.progress import track
from lorefuse.retrieval.recommender import Recommender, Rows, Scores, Side, top_k

RRF_CONSTANT, RRF_DEPTH = 60, 1000
Fusion = Literal["z_score", "reciprocal_rank"]


def z_scores(scores_BN: Scores) -> Scores:
    """Return each user's scores with mean 0 and deviation 1; scores that are all the same become zeros."""
    centred_BN = scores_BN - scores_BN.mean(axis=1, keepdims=True)
    deviation_B1 = centred_BN.std(axis=1, keepdims=True)
    return np.asarray(centred_BN / np.where(deviation_B1 > 1e-12, deviation_B1, 1.0), dtype=np.float32)


def reciprocal_ranks(scores_BN: Scores, depth: int = RRF_DEPTH) -> Scores:
    """Return 1 / (60 + rank) of each row's best scores, ranks from 1, and 0 for those further down.

    Of equal scores the first column wins.

    Args:
        scores_BN: Scores of the catalogue.
        depth: Ranks that count: the length of the lists that are joined.

    Source: Cormack et al., SIGIR 2009, with their constant of 60.
    """
    depth = min(depth, scores_BN.shape[1])
    share_K = np.broadcast_to(1 / (RRF_CONSTANT + np.arange(1, depth + 1, dtype=np.float32)), (len(scores_BN), depth))
    result_BN = np.zeros_like(scores_BN)
    np.put_along_axis(result_BN, top_k(scores_BN, depth), share_K, axis=1)
    return result_BN


class Hybrid(Recommender):
    """Weighted sum of several recommenders' z-scores, or of their reciprocal ranks.

    How much text is worth beside likes differs between catalogues by an order of magnitude, so the weights are better
    chosen on validation than given.

    Args:
        members: Recommenders and their weights, at least two; they are fitted with the hybrid.
        fusion: ``z_score`` keeps how far ahead an item is, ``reciprocal_rank`` only its place.
        grid: Weights to try for each member but the first, one member after the other, where `fit` is given a
            judge; the best is kept. Empty: the weights as they are given.
    """

    def __init__(
        self,
        members: Sequence[tuple[Recommender, float]],
        fusion: Fusion = "z_score",
        grid: Sequence[float] = (),
    ) -> None:
        if len(members) < 2:
            raise UsageError("A hybrid joins recommenders.", expected="at least two members", got=str(len(members)))
        self.members = [member for member, _ in members]
        self.weights = [weight for _, weight in members]
        self.fusion, self.grid = fusion, tuple(grid)

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        for member in self.members:
            # a member that trains in epochs is judged by its own rankings
            member.fit(train_UN, side, validate)  # type: ignore[arg-type]
        if validate is None or not self.grid:
            return
        for position in track(range(1, len(self.members)), "Choosing weights"):
            judged: list[tuple[float, float]] = []
            for weight in sorted(self.grid):
                self.weights[position] = weight
                judged.append((validate(self), -weight))
            self.weights[position] = -max(judged)[1]  # of equal ones the smallest

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        scale = z_scores if self.fusion == "z_score" else reciprocal_ranks
        pairs = zip(self.members, self.weights, strict=True)
        parts = [weight * scale(member.scores(user_rows, history_UN)) for member, weight in pairs if weight]
        return np.asarray(np.sum(parts, axis=0)) if parts else np.zeros((len(user_rows), history_UN.shape[1]))
