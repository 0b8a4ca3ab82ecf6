"""user_id → the ranker's user tensors, from the online store that was deployed with the model.

A request holds up to `max_batch_size` users; `k` and `exclude_seen` may be left out: 10 (or the most that is allowed)
and true. A user nobody has seen gets the unseen index, the numbers of somebody without history, and no interest: the
same as a first visit in training.
"""

import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils
from online_store import OnlineStore, OnlineStoreError

DEFAULT_K = 10


class RequestError(Exception):
    """Something the caller can mend."""


class TritonPythonModel:
    """The feature model of one version."""

    def initialize(self, args):
        """Read `features.json` and open the online store beside it."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        with open(os.path.join(folder, "features.json"), encoding="utf-8") as stream:
            self.facts = json.load(stream)
        self.catalogue = {item_id: row for row, item_id in enumerate(self.facts["item_ids"])}
        # Lists of pairs, not mappings: their order is the order of the tensors' columns.
        self.indices = {
            field: {value: row + 1 for row, value in enumerate(values)} for field, values in self.facts["user_fields"]
        }
        self.defaults = dict(self.facts["user_numeric"])
        self.facets = dict(self.facts["interest"])
        store_path = os.path.join(folder, self.facts["online_store"])
        try:
            self.store = OnlineStore(store_path, self.facts["project"], self.facts["views"])
        except OnlineStoreError as error:
            raise pb_utils.TritonModelException(str(error)) from None

    def execute(self, requests):
        """Answer each request on its own; a bad one gets one clear line."""
        responses = []
        for request in requests:
            try:
                responses.append(pb_utils.InferenceResponse(output_tensors=self._answer(request)))
            except RequestError as error:
                responses.append(_failed(error, pb_utils.TritonError.INVALID_ARG))
            except OnlineStoreError as error:
                responses.append(_failed(error, pb_utils.TritonError.INTERNAL))
        return responses

    def finalize(self):
        """Close the store."""
        self.store.connection.close()

    def _answer(self, request):
        user_ids = self._user_ids(request)
        k = self._k(request, len(user_ids))
        exclude = _optional(request, "exclude_seen", True, len(user_ids))
        found = self.store.read("user_id", user_ids)
        tensors = {
            "user_fields": self._fields(user_ids, found),
            "user_numeric": self._numeric(found),
            "user_interest": self._interest(found),
            "user_history": self._history(found),
            "exclude_rows": self._exclude_rows(found, exclude),
            "k": k[:, None],
            "liked_item_id": self._liked(found),
        }
        return [pb_utils.Tensor(name, array) for name, array in tensors.items() if array.shape[1]]

    def _user_ids(self, request):
        raw = pb_utils.get_input_tensor_by_name(request, "user_id").as_numpy().reshape(-1)
        try:
            return [value.decode("utf-8") for value in raw]
        except UnicodeDecodeError:
            raise RequestError("user_id is not UTF-8 text") from None

    def _k(self, request, num_users):
        k = _optional(request, "k", min(DEFAULT_K, self.facts["max_k"]), num_users).astype(np.int32)
        if (k < 1).any() or (k > self.facts["max_k"]).any():
            bad = k[(k < 1) | (k > self.facts["max_k"])][0]
            raise RequestError(f"k must lie between 1 and {self.facts['max_k']}; got {bad}")
        return k

    def _fields(self, user_ids, found):
        rows = []
        for user_id, features in zip(user_ids, found, strict=True):
            values = {**features, "user_id": user_id}
            rows.append([table.get(values.get(field, ""), 0) for field, table in self.indices.items()])
        return np.array(rows, dtype=np.int64)

    def _numeric(self, found):
        rows = [[features.get(name, value) for name, value in self.defaults.items()] for features in found]
        return np.array(rows, dtype=np.float32).reshape(len(found), len(self.defaults))

    def _interest(self, found):
        result = np.zeros((len(found), sum(self.facets.values())), dtype=np.float32)
        for row, features in zip(result, found, strict=True):
            start = 0
            for name, dim in self.facets.items():
                vector = features.get(name, ())
                if len(vector) not in (0, dim):
                    raise OnlineStoreError(f"{name} in the online store has {len(vector)} dimensions, expected {dim}")
                row[start : start + len(vector)] = vector
                start += dim
        return result

    def _history(self, found):
        """Catalogue rows + 1 of the recent liked items, oldest first, padded with 0 on the left."""
        length = self.facts["history_length"]
        result = np.zeros((len(found), length), dtype=np.int64)
        for row, features in zip(result, found, strict=True):
            # An item that has left the catalogue keeps its place as padding.
            liked = [self.catalogue.get(item, -1) + 1 for item in features.get("recent_liked", ())][-length:]
            if length and liked:
                row[-len(liked) :] = liked
        return result

    def _exclude_rows(self, found, exclude):
        width = self.facts["num_excluded"]
        result = np.full((len(found), width), -1, dtype=np.int64)
        for row, features, wanted in zip(result, found, exclude, strict=True):
            if wanted:
                seen = [self.catalogue[item] for item in features.get("seen", ()) if item in self.catalogue]
                seen = seen[-width:]  # newest last: where they do not all fit, the oldest may come back
                row[: len(seen)] = seen
        return result

    def _liked(self, found):
        """Newest first, padded with empty texts to at least one column."""
        lists = [list(reversed(features.get("recent_liked", ())))[: self.facts["num_liked"]] for features in found]
        width = max(1, *(len(items) for items in lists)) if lists else 1
        rows = [[item.encode() for item in items] + [b""] * (width - len(items)) for items in lists]
        return np.array(rows, dtype=np.object_).reshape(len(found), width)


def _optional(request, name, default, num_users):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return np.full(num_users, default) if tensor is None else tensor.as_numpy().reshape(-1)


def _failed(error, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
