"""The identity, as a model of Triton's Python backend."""

from typing import Any

import triton_python_backend_utils as backend


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            x = backend.get_input_tensor_by_name(request, "x")
            responses.append(backend.InferenceResponse([backend.Tensor("y", x.as_numpy())]))
        return responses
