"""What finds the items of a version: views of the whole catalogue, or towers and an index."""

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

ORT_ERRORS = tuple(
    getattr(ort_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented",
                 "RuntimeException")
)  # fmt: skip
OPEN_ERRORS = (*ORT_ERRORS, OSError, EOFError, RuntimeError, ValueError, LookupError)
"""What a file that is missing or not whole raises."""


def open_session(path):
    """Open a graph on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Finder:
    """What both ways of finding items share: `rank`, asked for several requests."""

    def run(self, asked):
        """Rank for several requests.

        Args:
            asked: Number of the request → its tensors, as `features` gives them.

        Returns:
            Number of the request → rows and scores, or the error that the ranker gave.
        """
        results = {}
        for number, tensors in asked.items():
            try:
                results[number] = self.rank(tensors)
            except ORT_ERRORS as error:
                results[number] = error
        return results
