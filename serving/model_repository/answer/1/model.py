"""Rows of the catalogue → what people read: ids, titles and scores, what the user liked, and which model says so.

Rows of a batch are as long as the longest of them; shorter ones end in empty texts with score -inf.
"""

import json
import os
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils

FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a fault of ours would raise: callers get one line, the log gets the trace."""


class RequestError(Exception):
    """Something the caller can mend, in one line."""


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
        self.provenance = {
            "model_version": args["model_version"].encode(),
            **{name: facts[name].encode() for name in ("alias", "data_cutoff", "embedding_address")},
        }

    def execute(self, requests):
        """Answer each request on its own; a bad one gets one clear line."""
        responses = []
        for request in requests:
            try:
                responses.append(pb_utils.InferenceResponse(output_tensors=self._answer(request)))
            except RequestError as error:
                responses.append(_failed(error, pb_utils.TritonError.INVALID_ARG))
            except FAULTS as error:
                pb_utils.Logger.log_error(traceback.format_exc())
                responses.append(_failed(f"answer failed: {type(error).__name__}", pb_utils.TritonError.INTERNAL))
        return responses

    def _answer(self, request):
        def read(name):
            return pb_utils.get_input_tensor_by_name(request, name).as_numpy()

        rows, scores, k, liked = read("catalogue_row"), read("score"), read("k"), read("liked_item_id")
        if (rows >= len(self.item_ids)).any():
            raise RequestError(f"catalogue_row must lie below {len(self.item_ids)}")
        # Excluded rows are -1 and come last; each user keeps the first k of the rest.
        num_kept = np.minimum((rows >= 0).sum(1), k[:, 0])
        width = max(1, int(num_kept.max(initial=0)))
        kept = np.arange(width)[None, :] < num_kept[:, None]
        rows = np.where(kept, rows[:, :width], 0)
        empty = np.array(b"", dtype=np.object_)
        tensors = {
            "item_id": np.where(kept, self.item_ids[rows], empty),
            "title": np.where(kept, self.titles[rows], empty),
            "score": np.where(kept, scores[:, :width], -np.inf).astype(np.float32),
            "liked_title": self._titles(liked),
            **{name: np.full((len(rows), 1), text, dtype=np.object_) for name, text in self.provenance.items()},
        }
        return [pb_utils.Tensor(name, array) for name, array in tensors.items()]

    def _titles(self, item_ids):
        """Title of each id; the id itself where the catalogue has no such item any more."""
        titles = [[self.title_of.get(item_id, item_id) for item_id in row] for row in item_ids]
        return np.array(titles, dtype=np.object_).reshape(item_ids.shape)


def _failed(error, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
