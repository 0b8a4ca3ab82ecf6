"""User tensors → the best rows of a catalogue past one graph: what retriever.py says, as a model of its own."""

import os
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils
from finder import OPEN_ERRORS, ORT_ERRORS
from open_finder import open_finder

FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a fault of ours would raise: callers get one line, the log gets the trace."""


class TritonPythonModel:
    """The retrieving part of one version."""

    def initialize(self, args):
        """Open what the version folder holds."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        try:
            self.retriever = open_finder(folder)
        except OPEN_ERRORS as error:
            message = str(error).strip().splitlines() or [type(error).__name__]
            raise pb_utils.TritonModelException(f"retrieve cannot be opened: {message[-1][:300]}") from None
        self.names = [name for name in self.retriever.names if name not in self.retriever.items]

    def execute(self, requests):
        """Answer each request on its own; a bad one gets one clear line."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        names = {*self.names, "user_fields", "exclude_rows", "liked_rows", "seen_rows"}
        tensors = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names}
        try:
            rows, scores = self.retriever.rank(tensors)
        except ORT_ERRORS:
            return _failed("user tensors hold what the ranker does not know", pb_utils.TritonError.INVALID_ARG)
        except FAULTS as error:
            pb_utils.Logger.log_error(traceback.format_exc())
            return _failed(f"retrieve failed: {type(error).__name__}", pb_utils.TritonError.INTERNAL)
        outputs = [pb_utils.Tensor("catalogue_row", np.ascontiguousarray(rows)), pb_utils.Tensor("score", scores)]
        return pb_utils.InferenceResponse(output_tensors=outputs)


def _failed(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
