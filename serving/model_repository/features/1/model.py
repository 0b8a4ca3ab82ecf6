"""The feature model: what users.py says, as a model of its own. A request holds up to `max_batch_size` users."""

import os

import triton_python_backend_utils as pb_utils
from recommend_request import inputs_of
from users import FAILURES, Users, failure


class TritonPythonModel:
    """The feature model of one version."""

    def initialize(self, args):
        """Open what the version folder holds."""
        self.users = Users(os.path.join(args["model_repository"], args["model_version"]))

    def execute(self, requests):
        """Answer each request on its own; a bad one gets one clear line."""
        responses = []
        for request in requests:
            try:
                tensors = self.users.tensors(inputs_of(request))
            except FAILURES as error:
                responses.append(failure(error, "features"))
                continue
            outputs = [pb_utils.Tensor(name, array) for name, array in tensors.items()]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses

    def finalize(self):
        """Close the store."""
        self.users.close()
