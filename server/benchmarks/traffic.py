"""Random requests that carry their own number, and what must become of each."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Planned", "Traffic"]

ROWS: Final = 4
WIDTHS: Final = (1, 3, 16, 100)
SHAPES: Final = ((1, 1), (2, 7), (5, 1))
SIZES: Final = {"FP32": 4, "INT32": 4, "INT64": 8}
NUMBER_BYTES: Final = 4
LONGEST_CANCEL_DELAY: Final = 0.02
"""Seconds; about what a request takes, so that calls end before, in and after every stage."""


class Tensor(NamedTuple):
    """A tensor as a message has it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class Planned(NamedTuple):
    """A request and its end: these outputs, or this status.

    ``cancel_after``: seconds after which the caller goes away, None where it stays.
    """

    number: int
    message: bytes
    model: str
    outputs: tuple[Tensor, ...]
    code: grpc.StatusCode
    cancel_after: float | None

    def is_answered_by(self, reply: bytes) -> bool:
        """Return whether a reply is the one to this request, to the last bit."""
        response = pb.ModelInferResponse.FromString(reply)
        tensors = tuple(
            Tensor(output.name, output.datatype, tuple(output.shape), data)
            for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
        )
        ours = (self.model, str(self.number), self.outputs)
        return ours == (response.model_name, response.id, tensors)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is sent: the same requests for the same seed, whatever the concurrency.

    ``cancelled`` and ``refused`` are shares; refused are requests that no server may answer.
    """

    count: int
    seed: int = 7
    concurrency: int = 64
    cancelled: float = 0.1
    refused: float = 0.02

    def requests(self) -> Iterator[Planned]:
        """Yield every request in turn, for the models of ``models.build_identities``."""
        for number in range(self.count):
            rng = random.Random(f"{self.seed}:{number}")  # noqa: S311  # not a secret
            if rng.random() < self.refused:
                yield _bad(number, rng)
            else:
                late = rng.uniform(0, LONGEST_CANCEL_DELAY)
                after = late if rng.random() < self.cancelled else None
                yield _good(number, rng, after)


def _good(number: int, rng: random.Random, cancel_after: float | None) -> Planned:
    rows = rng.randint(1, ROWS)
    model = rng.choice(("identity", "identity_int64", "swap"))
    if model == "identity":
        inputs = [_tensor("x", "FP32", (rows, rng.choice(WIDTHS)), number, rng)]
        outputs = [inputs[0]._replace(name="y")]
    elif model == "identity_int64":
        inputs = [_tensor("x", "INT64", (rows, *rng.choice(SHAPES)), number, rng)]
        outputs = [inputs[0]._replace(name="y")]
    else:
        a = _tensor("a", "FP32", (rows, rng.choice(WIDTHS)), number, rng)
        b = _tensor("b", "INT32", (rows, 4), number, rng)
        inputs, outputs = [a, b], [b._replace(name="c"), a._replace(name="d")]
        rng.shuffle(inputs)  # inputs are known by their names
    message = _message(model, number, inputs)
    ok = grpc.StatusCode.OK
    return Planned(number, message, model, tuple(outputs), ok, cancel_after)


def _bad(number: int, rng: random.Random) -> Planned:
    right = _tensor("x", "FP32", (1, 16), number, rng)
    unknown, invalid = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
    model, tensor, code = rng.choice(
        (
            ("identity_nowhere", right, unknown),
            ("identity", right._replace(name="z"), invalid),
            ("identity", right._replace(shape=(16,)), invalid),
            ("identity", right._replace(shape=(1, 17)), invalid),
            ("identity", right._replace(datatype="INT32"), invalid),
        )
    )
    return Planned(number, _message(model, number, [tensor]), model, (), code, None)


def _tensor(
    name: str, datatype: str, shape: tuple[int, ...], number: int, rng: random.Random
) -> Tensor:
    """Return a tensor that begins with the number; the rest are bits of any kind, NaN included."""
    size = math.prod(shape) * SIZES[datatype]
    data = number.to_bytes(NUMBER_BYTES, "little") + rng.randbytes(size - NUMBER_BYTES)
    return Tensor(name, datatype, shape, data)


def _message(model: str, number: int, tensors: list[Tensor]) -> bytes:
    request = pb.ModelInferRequest(model_name=model, id=str(number))
    for tensor in tensors:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(tensor.data)
    return request.SerializeToString()
