"""Rows of the catalogue → what people read: ids, titles and scores, what the user liked, and which model says so.

Rows of a batch are as long as the longest of them; shorter ones end in empty texts with score -inf.
"""

import json
import os

import numpy as np

EMPTY = np.array(b"", dtype=np.object_)


class Answers:
    """The catalogue of one version, as people read it.

    Args:
        folder: Version folder; holds `answer.json`.
        version: Its number, as text.
    """

    def __init__(self, folder, version):
        with open(os.path.join(folder, "answer.json"), encoding="utf-8") as stream:
            facts = json.load(stream)
        self.item_ids = np.array([item_id.encode() for item_id in facts["item_ids"]], dtype=np.object_)
        self.titles = np.array([title.encode() for title in facts["titles"]], dtype=np.object_)
        self.title_of = dict(zip(self.item_ids, self.titles, strict=True))
        self.provenance = {
            "model_version": version.encode(),
            **{name: facts[name].encode() for name in ("alias", "data_cutoff", "embedding_address")},
        }

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
        num_kept = np.minimum((rows >= 0).sum(1), k[:, 0])
        width = max(1, int(num_kept.max(initial=0)))
        kept = np.arange(width)[None, :] < num_kept[:, None]
        rows = np.where(kept, rows[:, :width], 0)
        return {
            "item_id": np.where(kept, self.item_ids[rows], EMPTY),
            "title": np.where(kept, self.titles[rows], EMPTY),
            "score": np.where(kept, scores[:, :width], -np.inf).astype(np.float32),
            "liked_title": self._titles(liked),
            **{name: np.full((len(rows), 1), text, dtype=np.object_) for name, text in self.provenance.items()},
        }

    def _titles(self, item_ids):
        """Title of each id; the id itself where the catalogue has no such item any more."""
        titles = [[self.title_of.get(item_id, item_id) for item_id in row] for row in item_ids]
        return np.array(titles, dtype=np.object_).reshape(item_ids.shape)
