"""The text of an item that nobody has seen → its vector, and what a user would think of it, in one call.

Tokenizer and encoder are the ones of training, so is the linear map to the model's text features. The user's side and
the score come from `features` and `ranker` of the same version. No torch: `tokenizers`, onnxruntime and numpy.
"""

import json
import os
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils
from encoder import OnnxEncoder
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

MAX_TEXT_BYTES = 65_536
FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, ort_state.RuntimeException,
          ort_state.InvalidArgument, ort_state.Fail)  # fmt: skip
"""What a fault of ours would raise: callers get one line, the log gets the trace."""
NOBODY = b"\x00nobody"
"""A user_id that no data set can hold."""


class EmbedRequestError(Exception):
    """Something the caller can mend, in one line."""


class PartError(Exception):
    """What `features` or `ranker` said instead of an answer."""


class TritonPythonModel:
    """The embed model of one version."""

    def initialize(self, args):
        """Read the encoder, the reducer and the facts."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        with open(os.path.join(folder, "embed.json"), encoding="utf-8") as stream:
            self.facts = json.load(stream)
        with np.load(os.path.join(folder, "embed.npz"), allow_pickle=False) as arrays:
            self.arrays = dict(arrays)
        self.encoder = OnnxEncoder(folder, self.facts)
        self.version = int(args["model_version"])
        self.provenance = {
            "model_version": args["model_version"].encode(),
            **{name: self.facts[name].encode() for name in ("alias", "data_cutoff", "embedding_address")},
        }

    def execute(self, requests):
        """Answer each request on its own; a bad one gets one clear line."""
        responses = []
        for request in requests:
            try:
                responses.append(pb_utils.InferenceResponse(output_tensors=self._answer(request)))
            except EmbedRequestError as error:
                responses.append(_failed(error, pb_utils.TritonError.INVALID_ARG))
            except PartError as error:
                responses.append(_failed(error, pb_utils.TritonError.INTERNAL))
            except FAULTS as error:
                pb_utils.Logger.log_error(traceback.format_exc())
                responses.append(_failed(f"embed failed: {type(error).__name__}", pb_utils.TritonError.INTERNAL))
        return responses

    def _answer(self, request):
        texts = self._texts(request)
        vectors = self._vectors(texts)
        user = self._user(request, len(texts))
        score = self._ask("ranker", {**user, **self._item(vectors)}, ["score"])["score"]
        tensors = {
            "vector": vectors,
            "score": score.reshape(len(texts), 1),
            **{name: np.full((len(texts), 1), text, dtype=np.object_) for name, text in self.provenance.items()},
        }
        return [pb_utils.Tensor(name, array) for name, array in tensors.items()]

    def _texts(self, request):
        array = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
        if array.shape[1] > self.facts["num_facets"]:
            raise EmbedRequestError(f"text has {array.shape[1]} columns; this model knows {self.facts['num_facets']}")
        rows = [[_decoded(value) for value in row] for row in array]
        if not all(any(text.strip() for text in row) for row in rows):
            raise EmbedRequestError("text is empty")
        return rows

    def _vectors(self, rows):
        """Embed all facets of all rows; a facet without a text stays zeros."""
        dim, count = self.facts["kept_dim"], self.facts["num_facets"]
        result = np.zeros((len(rows), count, dim), np.float32)
        places = [(row, facet) for row, texts in enumerate(rows) for facet, text in enumerate(texts) if text]
        vectors = self.encoder.encode([rows[row][facet] for row, facet in places])
        for (row, facet), vector in zip(places, vectors, strict=True):
            result[row, facet] = vector
        return result.reshape(len(rows), count * dim)

    def _item(self, vectors):
        """Item tensors of an item known by its words alone, without id, categories and history."""
        a, facts, num_rows = self.arrays, self.facts, len(vectors)
        reduced = (vectors - a["mean"]) @ a["components"] / a["scale"]
        if "input_blocks" in a:
            parts = np.split(vectors, np.cumsum(a["input_blocks"])[:-1], axis=1)
            has_facet = np.stack([part.any(1) for part in parts], axis=1)
            reduced = reduced * np.repeat(has_facet, a["output_blocks"], axis=1)
        reduced = reduced.astype(np.float32)
        known = {**facts["item_without_history"], "item_prior": reduced @ a["prior_weights"] + a["prior_intercept"][0]}
        columns = [np.broadcast_to(known[name], num_rows) for name in facts["item_numeric"]]
        tensors = {
            **{name: np.zeros((num_rows, width), _dtype(name)) for name, width in facts["widths"].items()},
            "item_numeric": np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((num_rows, 0)),
            "item_text": reduced,
        }
        return {name: array for name, array in tensors.items() if array.shape[1]}

    def _user(self, request, num_rows):
        user_id = pb_utils.get_input_tensor_by_name(request, "user_id")
        context = pb_utils.get_input_tensor_by_name(request, "context")
        inputs = {"user_id": np.full((num_rows, 1), NOBODY, np.object_) if user_id is None else user_id.as_numpy()}
        if context is not None:
            inputs["context"] = context.as_numpy()
        return self._ask("features", inputs, self.facts["user_tensors"])

    def _ask(self, name, inputs, outputs):
        request = pb_utils.InferenceRequest(
            model_name=name,
            model_version=self.version,
            requested_output_names=outputs,
            inputs=[pb_utils.Tensor(key, np.ascontiguousarray(array)) for key, array in inputs.items()],
        )
        response = request.exec()
        if response.has_error():
            message = str(response.error().message()).strip().splitlines()[0][:300]
            invalid = response.error().code() == pb_utils.TritonError.INVALID_ARG
            raise (EmbedRequestError if invalid else PartError)(message)
        return {key: pb_utils.get_output_tensor_by_name(response, key).as_numpy() for key in outputs}


def _dtype(name):
    return np.int64 if name in ("item_fields", "item_multi") else np.float32


def _decoded(value):
    if len(value) > MAX_TEXT_BYTES:
        raise EmbedRequestError(f"text holds {len(value):,} bytes; at most {MAX_TEXT_BYTES:,} are allowed")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise EmbedRequestError("text is not UTF-8") from None


def _failed(error, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
