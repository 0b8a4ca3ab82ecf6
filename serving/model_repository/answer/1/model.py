"""The answer model: what answers.py says, as a model of its own."""

import os
import traceback

import triton_python_backend_utils as pb_utils
from answers import Answers
from byte_texts import install

install(pb_utils)
FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a fault of ours would raise: callers get one line, the log gets the trace."""


class AnswerError(Exception):
    """Something the caller can mend, in one line."""


class TritonPythonModel:
    """The answer model of one version."""

    def initialize(self, args):
        """Open what the version folder holds."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.answers = Answers(folder, args["model_version"])

    def execute(self, requests):
        """Answer each request on its own; a bad one gets one clear line."""
        responses = []
        for request in requests:
            try:
                responses.append(pb_utils.InferenceResponse(output_tensors=self._answer(request)))
            except AnswerError as error:
                responses.append(_failed(error, pb_utils.TritonError.INVALID_ARG))
            except FAULTS as error:
                pb_utils.Logger.log_error(traceback.format_exc())
                responses.append(_failed(f"answer failed: {type(error).__name__}", pb_utils.TritonError.INTERNAL))
        return responses

    def _answer(self, request):
        names = ("catalogue_row", "score", "k", "liked_item_id")
        rows, scores, k, liked = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names)
        num_items = len(self.answers.item_ids)
        if (rows >= num_items).any():
            raise AnswerError(f"catalogue_row must lie below {num_items}")
        tensors = self.answers.tensors(rows, scores, k, liked)
        return [pb_utils.Tensor(name, array) for name, array in tensors.items()]


def _failed(error, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
