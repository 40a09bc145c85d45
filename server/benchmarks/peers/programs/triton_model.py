"""The model for Triton's Python backend: the requests of one call are run as one batch."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

# The interpreter inside the backend's stub does not look at it by itself.
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

import numpy as np  # noqa: E402  # found there
import torchscript  # noqa: E402  # found there
import triton_python_backend_utils as pb_utils  # noqa: E402  # found there

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """What the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002  # the backend's interface
        """Load the program."""
        self.program = torchscript.Program.of_environment()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run the rows of all requests at once."""
        counts = []
        columns: list[list[np.ndarray[Any, Any]]] = [[] for _ in self.program.inputs]
        for request in requests:
            for column, (name, _, _) in zip(columns, self.program.inputs, strict=True):
                column.append(pb_utils.get_input_tensor_by_name(request, name).as_numpy())
            counts.append(len(columns[0][-1]))
        arrays = [column[0] if len(column) == 1 else np.concatenate(column) for column in columns]
        outputs = self.program.run(arrays)
        responses, at = [], 0
        for count in counts:
            rows = slice(at, at + count)
            at += count
            tensors = [
                pb_utils.Tensor(name, output[rows])
                for name, output in zip(self.program.outputs, outputs, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
