"""New items take over the scores of the known items whose texts are nearest.

Suffixes: ``U`` users, ``B`` users (or new items) of a batch, ``N`` items, ``C`` new items, ``M`` known ones, ``K``
neighbours, ``E`` text width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lorefuse.core.progress import track
from lorefuse.retrieval.content import centred_text
from lorefuse.retrieval.recommender import Recommender, Rows, Side, top_k

ROWS_PER_BATCH = 1024


class TextInherited(Recommender):
    """A collaborative recommender that also ranks items without a like, by their text.

    Such an item n scores strength · max over its nearest items m of s(n, m) · score of m, with s the cosine of their
    centred texts, 0 where it is negative: as good as the best of the items it resembles, as far as it does. (A mean
    over the neighbours hardly ever lifts a new item to the top: few of them score at all.) Items with a like keep their
    scores; with more strength more new items are found, at the cost of known ones.

    Args:
        member: The collaborative recommender, scoring at least 0 what it would show; it is fitted with this one.
        num_neighbours: Nearest items that count.
        strength: Between 0 (new items score nothing) and 1.

    Source: in the manner of Gantner et al., ICDM 2010, who map attributes to a factor model by the nearest items.
    """

    def __init__(self, member: Recommender, num_neighbours: int = 5, strength: float = 0.4) -> None:
        self.member, self.num_neighbours, self.strength = member, num_neighbours, strength

    def _fit(self, train_UN: csr_array, side: Side, validate: Callable[[Self], float] | None) -> None:
        # a member that trains in epochs is judged by its own rankings
        self.member.fit(train_UN, side, validate)  # type: ignore[arg-type]
        text_NE = centred_text(train_UN, side, type(self).__name__)
        has_like = np.bincount(train_UN.indices, minlength=train_UN.shape[1]) > 0
        self.new, known = np.flatnonzero(~has_like), np.flatnonzero(has_like)
        width = min(self.num_neighbours, len(known))
        self.nearest_CK = np.zeros((len(self.new), width), dtype=np.int64)
        self.weight_CK = np.zeros((len(self.new), width), dtype=np.float32)
        for start in track(range(0, len(self.new), ROWS_PER_BATCH), "Finding the nearest texts of new items"):
            batch = slice(start, start + ROWS_PER_BATCH)
            cosine_BM = text_NE[self.new[batch]] @ text_NE[known].T
            columns_BK = top_k(cosine_BM, width)
            self.nearest_CK[batch] = known[columns_BK]
            self.weight_CK[batch] = self.strength * np.maximum(np.take_along_axis(cosine_BM, columns_BK, axis=1), 0)

    def _scores(self, user_rows: Rows, history_UN: csr_array) -> NDArray[np.floating]:
        scores_BN = self.member.scores(user_rows, history_UN)
        best_BC = np.full((len(user_rows), len(self.new)), -np.inf, dtype=np.float32)
        for nearest_C, weight_C in zip(self.nearest_CK.T, self.weight_CK.T, strict=True):
            np.maximum(best_BC, weight_C * scores_BN[:, nearest_C], out=best_BC)
        scores_BN[:, self.new] = best_BC
        return scores_BN
