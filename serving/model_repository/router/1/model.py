"""Takes the name `recommend` while a new version is on trial, and sends each user to the old or the new front.

Canary: users whose hash falls below the share are answered by the new front; a new front that fails is covered by the
old one, so that no user sees it. Shadow: the old front answers everybody, and the new one is asked afterwards; what
differs is counted and written down, one line of JSON a request. All tensors pass through as they are.
"""

import asyncio
import hashlib
import json
import time

import numpy as np
import triton_python_backend_utils as pb_utils

BUCKETS_MS = [round(0.5 * 1.25**step, 4) for step in range(45)]
"""Upper ends of the latency buckets: a quarter apart, up to 9 s."""
MAX_SHADOW_LINES = 100_000
_PADDING = {"score": -np.inf}


class TritonPythonModel:
    """The router of one roll-out."""

    def initialize(self, args):
        """Read who stands behind the two fronts from the config's parameters."""
        config = json.loads(args["model_config"])
        read = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        self.stable, self.canary = read["stable_model"], read["canary_model"]
        self.share, self.salt = float(read["share"]), read["canary_version"].encode()
        self.shadow_path = read.get("shadow_path")
        self.outputs = [output["name"] for output in config["output"]]
        self.inputs = [entry["name"] for entry in config["input"]]
        self.num_lines = 0
        self.meter = Meter({self.stable: read["stable_version"], self.canary: read["canary_version"]})

    async def execute(self, requests):
        """Answer all requests at once; the shadow is asked when the answers are out."""
        answered = await asyncio.gather(*(self._answer(request) for request in requests))
        if self.shadow_path is not None:
            await asyncio.gather(*(self._shadow(*pair) for pair in answered if pair is not None))

    async def _answer(self, request):
        """Send the response of a request; return its users, inputs and answer where they are to be compared."""
        sender = request.get_response_sender()
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in self.inputs]
        inputs = {tensor.name(): tensor.as_numpy() for tensor in tensors if tensor is not None}
        user_ids = [bytes(value) for value in inputs["user_id"].reshape(-1)]
        chosen = np.array([self.shadow_path is None and self._is_canary(user_id) for user_id in user_ids])
        parts = [(self.stable, np.flatnonzero(~chosen)), (self.canary, np.flatnonzero(chosen))]
        results = await asyncio.gather(*(self._ask(name, inputs, rows) for name, rows in parts if len(rows)))
        for *_, error in results:
            if error is not None:
                sender.send(pb_utils.InferenceResponse(error=error), final)
                return None
        merged = merge([(rows, result) for _, rows, result, _ in results], len(user_ids))
        outputs = [pb_utils.Tensor(name, array) for name, array in merged.items()]
        sender.send(pb_utils.InferenceResponse(output_tensors=outputs), final)
        return user_ids, inputs, merged

    async def _ask(self, name, inputs, rows):
        """Ask a front for some of the rows; the old one covers for the new one."""
        result, error = await self._call(name, {key: array[rows] for key, array in inputs.items()})
        if error is not None and name == self.canary:
            result, error = await self._call(self.stable, {key: array[rows] for key, array in inputs.items()})
        return name, rows, result, error

    async def _call(self, name, inputs):
        start_s = time.perf_counter()
        tensors = [pb_utils.Tensor(key, array) for key, array in inputs.items()]
        request = pb_utils.InferenceRequest(model_name=name, requested_output_names=self.outputs, inputs=tensors)
        response = await request.async_exec()
        elapsed_ms = (time.perf_counter() - start_s) * 1000
        if response.has_error():
            error = response.error()
            # What the caller got wrong is no failure of the model.
            if error.code() != pb_utils.TritonError.INVALID_ARG:
                self.meter.failed(name)
            return None, pb_utils.TritonError(error.message(), error.code())
        result = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
        self.meter.answered(name, elapsed_ms, result["score"][:, 0])
        return result, None

    async def _shadow(self, user_ids, inputs, answer):
        result, error = await self._call(self.canary, inputs)
        if error is not None:
            return
        for row, user_id in enumerate(user_ids):
            old, new = (set(one["item_id"][row]) - {b""} for one in (answer, result))
            overlap = len(old & new) / max(1, len(old))
            same_first = bool(answer["item_id"][row, 0] == result["item_id"][row, 0])
            self.meter.compared(overlap)
            self._write(
                {"user": hashlib.sha256(user_id).hexdigest()[:16], "overlap": overlap, "same_first": same_first}
            )

    def _write(self, line):
        if self.num_lines < MAX_SHADOW_LINES:
            self.num_lines += 1
            with open(self.shadow_path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    def _is_canary(self, user_id):
        """The same user always falls on the same side of one roll-out, and on another in the next."""
        digest = hashlib.sha256(self.salt + b"\0" + user_id).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


class Meter:
    """Triton's own metrics page shows these; the reconciler's guards read them there."""

    def __init__(self, versions):
        counter = pb_utils.MetricFamily.COUNTER
        # The families must outlive this method, or Triton drops them from its page.
        self.families = {
            name: pb_utils.MetricFamily(name=f"lorefuse_front_{name}", description=text, kind=counter)
            for name, text in (
                ("requests", "Requests that a front answered"),
                ("failures", "Requests that a front failed to answer"),
                ("latency_bucket", "Answered requests by latency, not cumulative; le in milliseconds"),
                ("score_count", "Users answered"),
                ("score_sum", "Sum over users of the best score, shifted by 1000"),
                ("score_square_sum", "Sum over users of the squared best score"),
                ("overlap_sum", "Sum over shadowed users of the share of items that both versions name"),
                ("overlap_count", "Shadowed users"),
            )
        }
        self.versions, self.metrics = versions, {}

    def answered(self, front, elapsed_ms, scores):
        """Count an answer."""
        self._add(front, "requests", 1)
        self._add(front, "latency_bucket", 1, le=str(BUCKETS_MS[int(np.searchsorted(BUCKETS_MS[:-1], elapsed_ms))]))
        scores = scores[np.isfinite(scores)].astype(np.float64)
        self._add(front, "score_count", len(scores))
        # A counter must not fall: scores are logits, so the sum is of score + 1000, taken off again by the reader.
        self._add(front, "score_sum", float((scores + 1000).sum()))
        self._add(front, "score_square_sum", float((scores**2).sum()))

    def failed(self, front):
        """Count a failure."""
        self._add(front, "failures", 1)

    def compared(self, overlap):
        """Count a comparison of the two versions' answers to one user."""
        front = list(self.versions)[1]
        self._add(front, "overlap_sum", overlap)
        self._add(front, "overlap_count", 1)

    def _add(self, front, name, amount, **labels):
        key = (front, name, *labels.values())
        if key not in self.metrics:
            labels = {"front": front, "version": self.versions[front], **labels}
            self.metrics[key] = self.families[name].Metric(labels=labels)
        self.metrics[key].increment(amount)


def merge(parts, num_rows):
    """Put rows answered apart back in the order of the request; shorter rows are padded as each front pads its own."""
    (rows, first), *rest = parts
    if not rest:
        return first
    merged = {}
    for name, array in first.items():
        width = max(result[name].shape[1] for _, result in parts)
        merged[name] = np.full((num_rows, width), _PADDING.get(name, b""), dtype=array.dtype)
        for rows, result in parts:
            merged[name][np.asarray(rows)[:, None], np.arange(result[name].shape[1])[None]] = result[name]
    return merged
