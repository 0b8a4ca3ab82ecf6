"""Rows of the catalogue → what people read: ids, titles and scores, what the user liked, and which model says so.

Rows of a batch are as long as the longest of them; shorter ones end in empty texts with score -inf.
"""

import json
import os

import numpy as np


class Answers:
    """The catalogue of one version, as people read it.

    Args:
        folder: Version folder; holds `answer.json`.
        version: Its number, as text.
    """

    def __init__(self, folder, version):
        with open(os.path.join(folder, "answer.json"), encoding="utf-8") as stream:
            facts = json.load(stream)
        self.item_ids = [item_id.encode() for item_id in facts["item_ids"]]
        self.titles = [title.encode() for title in facts["titles"]]
        self.title_of = dict(zip(self.item_ids, self.titles, strict=True))
        texts = {"model_version": version}
        texts |= {name: facts[name] for name in ("alias", "data_cutoff", "embedding_address")}
        self.provenance = {name: np.array([[text.encode()]], dtype=np.object_) for name, text in texts.items()}

    def tensors(self, rows, scores, k, liked):
        """Return all outputs of an answer.

        Args:
            rows: int64 (B, K) rows of the catalogue, best first; what is excluded is -1 and comes last.
            scores: float32 (B, K).
            k: int32 (B, 1): each user keeps the first k.
            liked: Item ids, object (B, L); an empty one is padding.

        Raises:
            IndexError: The catalogue has no such row.
        """
        # Lists: for the few items of an answer numpy's calls cost more than the work.
        pairs = zip(rows[:, : k.max()].tolist(), k[:, 0].tolist(), strict=True)
        kept = [[row for row in user_rows[:num] if row >= 0] for user_rows, num in pairs]
        width = max(1, *map(len, kept))
        kept_scores = np.full((len(kept), width), -np.inf, np.float32)
        for to, user_scores, user_rows in zip(kept_scores, scores, kept, strict=True):
            to[: len(user_rows)] = user_scores[: len(user_rows)]
        return {
            "item_id": _texts(self.item_ids, kept, width),
            "title": _texts(self.titles, kept, width),
            "score": kept_scores,
            "liked_title": self._titles(liked),
            **{name: text if len(kept) == 1 else text.repeat(len(kept), 0) for name, text in self.provenance.items()},
        }

    def _titles(self, item_ids):
        """Title of each id; the id itself where the catalogue has no such item any more."""
        titles = [[self.title_of.get(item_id, item_id) for item_id in row] for row in item_ids.tolist()]
        return np.array(titles, dtype=np.object_).reshape(item_ids.shape)


def _texts(of, kept, width):
    """Texts of rows, each user's padded with empty ones."""
    return np.array([[of[row] for row in rows] + [b""] * (width - len(rows)) for rows in kept], dtype=np.object_)
