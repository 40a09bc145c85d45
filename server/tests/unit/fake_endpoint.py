"""A model for scoring that is a function of arrays, and fails where a test says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from jitney.datatypes import DataType
from jitney.scoring.model import Model, Tensor
from jitney_client import InferResult, InvalidRequest
from jitney_client.protocol import inference as pb
from jitney_client.tensors import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney_client import JitneyError

__all__ = ["FakeEndpoint", "doubling", "error"]

BAD = -1.0
"""A row that begins with it is refused."""


def doubling(rows: int = 4, **changes: Any) -> Model:
    """Return a model that takes ``x``, FP32 ``[N, 2]``, and gives ``y``, which is twice as much."""
    x = Tensor("x", DataType.FP32, (2,))
    y = Tensor("y", DataType.FP32, (2,))
    model = Model("double", "1", (x,), (y,), batched=True, rows=rows)
    return replace(model, **changes)


def error(
    kind: type[JitneyError] = InvalidRequest, text: str = "row with -1", **facts: Any
) -> JitneyError:
    """Return an error of the client."""
    return kind(text, code=grpc.StatusCode.INVALID_ARGUMENT, **facts)


class FakeEndpoint:
    """Doubles ``x``; rows that begin with -1 are refused, unless ``refuse`` says otherwise.

    ``sent`` has the rows of each request. ``failures`` are what the next requests end with.
    ``together`` is the most requests that ran at once.
    """

    def __init__(self, refuse: Callable[[list[float]], JitneyError | None] | None = None) -> None:
        self.sent: list[list[float]] = []
        self.options: list[dict[str, Any]] = []
        self.failures: list[JitneyError] = []
        self.running = self.together = 0
        self.shape: Callable[[Any], Any] = lambda array: array
        self._refuse = refuse or (lambda firsts: error() if BAD in firsts else None)

    async def infer(self, model: str, inputs: Any, **options: Any) -> InferResult:
        """Double."""
        firsts = np.atleast_2d(inputs["x"])[:, 0].tolist()
        self.sent.append(firsts)
        self.options.append(options)
        self.running += 1
        self.together = max(self.together, self.running)
        try:
            for _ in range(3):  # others may begin meanwhile
                await asyncio.sleep(0)
            if self.failures:
                raise self.failures.pop(0)
            if (refusal := self._refuse(firsts)) is not None:
                raise refusal
        finally:
            self.running -= 1
        reply = pb.ModelInferResponse(model_name=model, model_version="1")
        tensor = encode(self.shape(2 * inputs["x"]))
        reply.outputs.add(name="y", datatype=tensor.datatype, shape=tensor.shape)
        return InferResult(reply, [tensor.data])

    async def metadata(self, model: str, *, version: str = "") -> pb.ModelMetadataResponse:
        """Return what ``doubling`` says."""
        reply = pb.ModelMetadataResponse(name=model, versions=[version] if version else ["1", "10"])
        reply.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        reply.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
        return reply

    async def config(self, model: str, *, version: str = "") -> pb.ModelConfig:
        """Likewise."""
        del version
        return pb.ModelConfig(name=model, max_batch_size=4)
