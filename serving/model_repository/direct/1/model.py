"""`features`, `catalogue_ranker` and `answer` of one version in one process: `recommend` on a machine without a GPU.

Past one graph `retrieve` stands in the middle.

Between separate models every tensor goes through Triton, which on a CPU costs more than the graph. The files beside
this one are those of the two Python models, and graph.py runs the graph of the third; configs/gpu.pbtxt of `recommend`
names the three instead, since a GPU belongs to Triton's own backend.
"""

import os

import triton_python_backend_utils as pb_utils
from answers import Answers
from byte_texts import install
from graph import ORT_ERRORS, ServedGraph
from recommend_request import inputs_of
from users import FAILURES, Users, failure

install(pb_utils)
NAME = "recommend"
"""What errors call this model: what the caller asked."""


class TritonPythonModel:
    """The whole path of one version."""

    def initialize(self, args):
        """Open what the version folder holds."""
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.users = Users(folder)
        self.answers = Answers(folder, args["model_version"])
        self.graph = self._graph(folder)

    def _graph(self, folder):
        if self.users.facts["retrieves"]:
            from finder import OPEN_ERRORS  # other versions have no such file
            from open_finder import open_finder

            try:
                return open_finder(folder)
            except OPEN_ERRORS as error:
                raise pb_utils.TritonModelException(f"candidates are not whole: {type(error).__name__}") from None
        try:
            return ServedGraph(os.path.join(folder, "model.onnx"), self.users.catalogue.num_items)
        except ORT_ERRORS as error:
            raise pb_utils.TritonModelException(f"model.onnx is not a valid graph: {type(error).__name__}") from None

    def execute(self, requests):
        """Answer each request on its own; those that can share a run of the graph do."""
        responses, asked = {}, {}
        for number, request in enumerate(requests):
            try:
                asked[number] = self.users.tensors(inputs_of(request))
            except FAILURES as error:
                responses[number] = failure(error, NAME)
        for number, ranked in self.graph.run(asked).items():
            try:
                responses[number] = self._response(asked[number], ranked)
            except FAILURES as error:
                responses[number] = failure(error, NAME)
        return [responses[number] for number in range(len(requests))]

    def finalize(self):
        """Close the store."""
        self.users.close()

    def _response(self, tensors, ranked):
        if isinstance(ranked, ORT_ERRORS):
            return failure(ranked, NAME)
        answer = self.answers.tensors(*ranked, tensors["k"], tensors["liked_item_id"])
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])
