"""A Triton backend named onnxruntime, on the CPU, written in Python: a stand-in for NVIDIA's own of that name.

No Python package ships the native backend. A model repository that says ``backend: "onnxruntime"`` runs unmodified on
both: here through this file, in NVIDIA's container through the native library. It loads ``<version>/model.onnx``,
runs it on one thread per instance, and merges the requests that Triton's dynamic batcher delivers together.
"""

import json
import os
import re

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

MODEL_FILE = "model.onnx"
PATH = re.compile(r"(?:/[\w.+-]+){2,}/?")
ORT_ERRORS = tuple(
    getattr(ort_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented",
                 "RuntimeException")
)  # fmt: skip


class TritonPythonModel:
    """One instance of one model version."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        """Leave the config as it is: it is written by the export."""
        return auto_complete_model_config

    def initialize(self, args):
        """Open the graph and hold it to the config: a wrong file fails the load, and an older version goes on."""
        config = json.loads(args["model_config"])
        self.batched = config["max_batch_size"] > 0
        self.max_batch_size = config["max_batch_size"]
        path = os.path.join(args["model_repository"], args["model_version"], MODEL_FILE)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            raise pb_utils.TritonModelException(f"{path} is not a valid ONNX model: {_first_line(error)}") from None
        self.input_names = [tensor["name"] for tensor in config["input"]]
        self.output_names = [tensor["name"] for tensor in config["output"]]
        graph_inputs = {tensor.name for tensor in self.session.get_inputs()}
        graph_outputs = {tensor.name for tensor in self.session.get_outputs()}
        if set(self.input_names) != graph_inputs or not set(self.output_names) <= graph_outputs:
            raise pb_utils.TritonModelException(
                f"{path} does not fit its config: the config names {self.input_names} -> {self.output_names}, "
                f"the graph {sorted(graph_inputs)} -> {sorted(graph_outputs)}"
            )

    def execute(self, requests):
        """Answer requests: in one run where their shapes allow it, else one by one."""
        feeds = [self._feed(request) for request in requests]
        if len(requests) > 1 and self.batched and self._mergeable(feeds):
            merged = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.input_names}
            try:
                outputs = self.session.run(self.output_names, merged)
            except ORT_ERRORS:
                pass  # one bad request must not fail its neighbours: run each on its own
            else:
                return self._split(outputs, feeds)
        return [self._run(feed) for feed in feeds]

    def finalize(self):
        """Let the graph go."""
        self.session = None

    def _feed(self, request):
        # A copy: the tensor's memory belongs to Triton and goes when the request is answered.
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.input_names}

    def _mergeable(self, feeds):
        rows = sum(len(feed[self.input_names[0]]) for feed in feeds)
        shapes = {tuple(feed[name].shape[1:] for name in self.input_names) for feed in feeds}
        return len(shapes) == 1 and rows <= self.max_batch_size

    def _run(self, feed):
        try:
            outputs = self.session.run(self.output_names, feed)
        except ORT_ERRORS as error:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(_first_line(error), pb_utils.TritonError.INVALID_ARG)
            )
        return self._response(outputs)

    def _split(self, outputs, feeds):
        ends = np.cumsum([len(feed[self.input_names[0]]) for feed in feeds])[:-1]
        parts = [np.split(output, ends) for output in outputs]
        return [self._response([part[n] for part in parts]) for n in range(len(feeds))]

    def _response(self, outputs):
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(output))
            for name, output in zip(self.output_names, outputs, strict=True)
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _first_line(error):
    """Return the first line of an error without paths: where files lie is nobody's business but the server's."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return PATH.sub("<file>", lines[0])[:300]
