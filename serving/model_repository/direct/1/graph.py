"""The catalogue ranker's graph in this process, on one thread."""

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

ORT_ERRORS = tuple(
    getattr(ort_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented",
                 "RuntimeException")
)  # fmt: skip
OUTPUTS = ["catalogue_row", "score"]
MAX_SCORES = 4096
"""Requests share a run up to so many scores: past that their layers leave a core's cache, and each takes longer."""


class ServedGraph:
    """One graph.

    Args:
        path: The ONNX file.
        num_items: Size of the catalogue.

    Raises:
        ORT_ERRORS: It is not a valid graph.
    """

    def __init__(self, path, num_items):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [tensor.name for tensor in self.session.get_inputs()]
        self.num_together = max(1, MAX_SCORES // num_items)

    def run(self, asked):
        """Rank the catalogue for several requests: in one run those whose tensors are equally wide.

        Args:
            asked: Number of the request → its tensors.

        Returns:
            Number of the request → rows and scores, or the error that the graph gave.
        """
        if len(asked) == 1:  # a lone request is spared the copies
            [(number, tensors)] = asked.items()
            try:
                return {number: self.session.run(OUTPUTS, {name: tensors[name] for name in self.names})}
            except ORT_ERRORS as error:
                return {number: error}
        groups = {}
        for number, tensors in asked.items():
            groups.setdefault(tensors["exclude_rows"].shape[1], []).append(number)
        runs = [
            numbers[start : start + self.num_together]
            for numbers in groups.values()
            for start in range(0, len(numbers), self.num_together)
        ]
        results = {}
        for numbers in runs:
            feed = {name: np.concatenate([asked[number][name] for number in numbers]) for name in self.names}
            try:
                outputs = self.session.run(OUTPUTS, feed)
            except ORT_ERRORS as error:
                results |= dict.fromkeys(numbers, error)
                continue
            ends = np.cumsum([len(asked[number]["k"]) for number in numbers])[:-1]
            results |= dict(
                zip(numbers, zip(*(np.split(output, ends) for output in outputs), strict=True), strict=True)
            )
        return results
