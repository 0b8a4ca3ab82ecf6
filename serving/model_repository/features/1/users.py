"""user_id → the ranker's user tensors, from the online store that was deployed with the model, and what may be shown.

A user nobody has seen gets the unseen index, the numbers of somebody without history, and no interest: the same as a
first visit in training. What `context` says about a user stands before what the store knows.
"""

import json
import os
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils
from catalogue import ServedCatalogue, as_said
from context_reducer import CONTEXT_FACET, ContextReducer, context_vectors
from names import check_names, check_strangers
from online_store import open_store
from recommend_request import RecommendRequest, RequestError, shown
from stored_values import OnlineStoreError, OnlineStoreUnavailableError

FAILURES = (RequestError, OnlineStoreError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a request, the store, or a fault of ours may raise."""


class Users:
    """The users of one version.

    Args:
        folder: Version folder; holds `features.json` and the online store.
    """

    def __init__(self, folder):
        with open(os.path.join(folder, "features.json"), encoding="utf-8") as stream:
            self.facts = json.load(stream)
        said = self.facts.get("said_names", {})
        self.said = said.get("context", {})
        self.pseudonyms = self.facts.get("pseudonyms", "")
        self.catalogue = ServedCatalogue(
            self.facts["item_ids"],
            self.facts["filters"],
            self.facts["num_excluded"],
            self.facts["popular_rows"],
            self.facts["retrieves"],
            said.get("filters"),
        )
        # Lists of pairs, not mappings: their order is the order of the tensors' columns.
        self.indices = {
            field: {value: row + 1 for row, value in enumerate(values)} for field, values in self.facts["user_fields"]
        }
        self.defaults = dict(self.facts["user_numeric"])
        self.facets = dict(self.facts["interest"])
        self.context_reducer = ContextReducer.of(folder) if CONTEXT_FACET in self.facets else None
        store_path = os.path.join(folder, self.facts["online_store"])
        try:
            self.store = open_store(store_path, self.facts["project"], self.facts["views"])
        except OnlineStoreError as error:
            raise pb_utils.TritonModelException(str(error)) from None

    def close(self):
        """Close the store."""
        self.store.close()

    def tensors(self, inputs):
        """Return the tensors of a request's users, those of width 0 left out.

        Args:
            inputs: Name → array, as `recommend_request.inputs_of`.

        Raises:
            RequestError: The request is none that can be answered.
            OnlineStoreError: The store does not answer, or holds what it should not.
        """
        request = RecommendRequest(inputs, self.facts["max_k"])
        self._check_context(request.context)
        check_names(request.user_ids, self.pseudonyms)
        found = self.store.read("user_id", request.user_ids)
        check_strangers(request.user_ids, found, self.pseudonyms)
        found = self._with_context(inputs, found)
        tensors = {
            "user_fields": self._fields(request, found),
            "user_numeric": self._numeric(found),
            "user_interest": self._interest(found),
            "user_history": self._history(found),
            "exclude_rows": self._exclude_rows(request, found),
            "k": np.array(request.k, np.int32)[:, None],
            "liked_item_id": self._liked(found),
            "liked_rows": self._past(found, "recent_liked"),
            "seen_rows": self._past(found, "seen"),
        }
        return {name: array for name, array in tensors.items() if array.shape[1]}

    def _check_context(self, context):
        known = [field for field in self.indices if field != "user_id"]
        for column in sorted({column for values in context for column in values}):
            if self.said.get(column, column) not in known:
                names = ", ".join(as_said(known, self.said)) or "none"
                raise RequestError(f"context has no column {shown(column)}; known: {names}")

    def _fields(self, request, found):
        rows = []
        for user_id, features, said in zip(request.user_ids, found, request.context, strict=True):
            told = {self.said.get(column, column): value for column, value in said.items()}
            values = {**features, **told, "user_id": user_id}
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

    def _with_context(self, inputs, found):
        """What was asked stands beside what the store knows; and whoever asks is not shown what most like."""
        vectors = context_vectors(inputs, self.context_reducer)
        if vectors is None:
            return found
        pairs = zip(found, vectors, strict=True)
        return [{**features, CONTEXT_FACET: vector} if vector.any() else features for features, vector in pairs]

    def _history(self, found):
        """Catalogue rows + 1 of the recent liked items, oldest first, padded with 0 on the left."""
        length = self.facts["history_length"]
        result = np.zeros((len(found), length), dtype=np.int64)
        if not length:
            return result
        for row, features in zip(result, found, strict=True):
            # An item that has left the catalogue keeps its place as padding.
            liked = [self.catalogue.row_of.get(item, -1) + 1 for item in features.get("recent_liked", ())][-length:]
            if liked:
                row[-len(liked) :] = liked
        return result

    def _exclude_rows(self, request, found):
        asked = zip(request.candidates, request.filters, request.exclude_seen, request.k, found, strict=True)
        rows = [
            self.catalogue.exclude_rows(
                candidates,
                filters,
                features.get("seen", ()) if exclude_seen else (),
                None if features else self._pool(k),
            )
            for candidates, filters, exclude_seen, k, features in asked
        ]
        result = np.full((len(rows), max(map(len, rows))), -1, np.int64)
        for excluded, row in zip(result, rows, strict=True):
            excluded[: len(row)] = row
        return result

    def _pool(self, k):
        """How many popular items somebody without any features is shown the best k of; None: all items.

        The model was trained on what people chose to rate. It says who would like what once they have seen it, and
        for somebody unknown that alone is a worse guess than what many have liked (docs/serving.md).
        """
        times = self.facts["newcomer_pool"]
        return None if times is None or not len(self.catalogue.popular_rows) else int(np.ceil(k * times))

    def _past(self, found, name):
        """Catalogue rows of a user's last items, newest first, padded with -1; those no longer there are left out."""
        row_of, num = self.catalogue.row_of, self.facts["num_liked"]
        lists = [
            [row_of[item] for item in reversed(features.get(name, ())[-num:]) if item in row_of] for features in found
        ]
        result = np.full((len(found), max(1, *map(len, lists))) if lists else (0, 1), -1, np.int64)
        for to, rows in zip(result, lists, strict=True):
            to[: len(rows)] = rows
        return result

    def _liked(self, found):
        """Newest first, padded with empty texts to at least one column."""
        lists = [list(reversed(features.get("recent_liked", ())))[: self.facts["num_liked"]] for features in found]
        width = max(1, *(len(items) for items in lists)) if lists else 1
        rows = [[item.encode() for item in items] + [b""] * (width - len(items)) for items in lists]
        return np.array(rows, dtype=np.object_).reshape(len(found), width)


def failure(error, model):
    """Return the response to one of `FAILURES`: one line for the caller; the trace of a fault of ours for the log."""
    if isinstance(error, RequestError):
        message, code = str(error), pb_utils.TritonError.INVALID_ARG
    elif isinstance(error, OnlineStoreUnavailableError):
        message, code = str(error), pb_utils.TritonError.UNAVAILABLE
    elif isinstance(error, OnlineStoreError):
        message, code = str(error), pb_utils.TritonError.INTERNAL
    else:
        pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
        message, code = f"{model} failed: {type(error).__name__}", pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
