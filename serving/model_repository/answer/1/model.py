"""Rows of the catalogue → what people read: ids, titles and scores, what the user liked, and which model says so.

Rows of a batch are as long as the longest of them; shorter ones end in empty texts with score -inf.
"""

import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The answer model of one version."""

    def initialize(self, args):
        """Read `answer.json`."""
        path = os.path.join(args["model_repository"], args["model_version"], "answer.json")
        with open(path, encoding="utf-8") as stream:
            facts = json.load(stream)
        self.item_ids = np.array([item_id.encode() for item_id in facts["item_ids"]], dtype=np.object_)
        self.titles = np.array([title.encode() for title in facts["titles"]], dtype=np.object_)
        self.title_of = dict(zip(self.item_ids, self.titles, strict=True))
        self.model_version = args["model_version"].encode()
        self.data_cutoff = facts["data_cutoff"].encode()

    def execute(self, requests):
        """Answer each request on its own."""
        return [pb_utils.InferenceResponse(output_tensors=self._answer(request)) for request in requests]

    def _answer(self, request):
        def read(name):
            return pb_utils.get_input_tensor_by_name(request, name).as_numpy()

        rows, scores, k, liked = read("catalogue_row"), read("score"), read("k"), read("liked_item_id")
        # Excluded rows are -1 and come last; each user keeps the first k of the rest.
        num_kept = np.minimum((rows >= 0).sum(1), k[:, 0])
        width = max(1, int(num_kept.max()))
        kept = np.arange(width)[None, :] < num_kept[:, None]
        rows = np.where(kept, rows[:, :width], 0)
        empty = np.array(b"", dtype=np.object_)
        tensors = {
            "item_id": np.where(kept, self.item_ids[rows], empty),
            "title": np.where(kept, self.titles[rows], empty),
            "score": np.where(kept, scores[:, :width], -np.inf).astype(np.float32),
            "liked_title": self._titles(liked),
            "model_version": np.full((len(rows), 1), self.model_version, dtype=np.object_),
            "data_cutoff": np.full((len(rows), 1), self.data_cutoff, dtype=np.object_),
        }
        return [pb_utils.Tensor(name, array) for name, array in tensors.items()]

    def _titles(self, item_ids):
        """Title of each id; the id itself where the catalogue has no such item any more."""
        titles = [[self.title_of.get(item_id, item_id) for item_id in row] for row in item_ids]
        return np.array(titles, dtype=np.object_).reshape(item_ids.shape)
