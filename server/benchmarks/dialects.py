"""How each of the compared servers is asked, and how its replies are read.

A dialect only shapes bytes: callers send prepared requests, and read the replies that are new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

__all__ = ["DIALECTS", "OIP", "PLAIN", "TORCHSERVE", "Dialect", "Named"]

VARINT_BITS: Final = 7
LENGTH_DELIMITED: Final = 2


class Named(NamedTuple):
    """A tensor of a request, little-endian: its name, datatype (``FP32``) and values."""

    name: str
    datatype: str
    array: np.ndarray


class Dialect(Protocol):
    """How requests and replies of one kind of server look.

    ``target`` is the path of the gRPC method, or of the HTTP resource where ``http`` is set.
    """

    name: str
    target: str
    http: bool

    def request(self, model: str, identity: str, tensors: Sequence[Named]) -> bytes:
        """Return the message, or the HTTP body."""

    def answer(self, request: bytes, reply: bytes) -> bytes | None:
        """Return the outputs' bytes, one after the other; None when the reply is of another call.

        :raises ValueError: when the reply cannot be read.
        """


class _Oip:
    """The Open Inference Protocol over gRPC, with raw contents."""

    name = "oip"
    target: str = pb.METHODS["ModelInfer"].path
    http = False

    def request(self, model: str, identity: str, tensors: Sequence[Named]) -> bytes:
        request = pb.ModelInferRequest(model_name=model, id=identity)
        for name, datatype, array in tensors:
            request.inputs.add(name=name, datatype=datatype, shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        message: bytes = request.SerializeToString()
        return message

    def answer(self, request: bytes, reply: bytes) -> bytes | None:
        asked = pb.ModelInferRequest.FromString(request)
        response = pb.ModelInferResponse.FromString(reply)
        if response.model_name != asked.model_name or response.id != asked.id:
            return None
        return b"".join(response.raw_output_contents)


class _Plain:
    """Tensors alone, one after the other, as the body of a POST: as little as HTTP can have.

    The server knows the names, the datatypes and the shape; all inputs of a model are equally long.
    """

    name = "plain"
    target = "/inference"
    http = True

    def request(self, model: str, identity: str, tensors: Sequence[Named]) -> bytes:  # noqa: ARG002  # the server knows them
        return b"".join(tensor.array.tobytes() for tensor in tensors)

    def answer(self, request: bytes, reply: bytes) -> bytes | None:  # noqa: ARG002  # names nothing
        return reply


class _TorchServe:
    """TorchServe's own gRPC: ``Predictions`` with a map of bytes, of which ``body`` is as in plain.

    Its messages are three fields, put together here: stubs for them would be one more dependency.
    """

    name = "torchserve"
    target = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    http = False

    def request(self, model: str, identity: str, tensors: Sequence[Named]) -> bytes:
        body = PLAIN.request(model, identity, tensors)
        entry = _field(1, b"body") + _field(2, body)
        return _field(1, model.encode()) + _field(3, entry)

    def answer(self, request: bytes, reply: bytes) -> bytes | None:  # noqa: ARG002  # names nothing
        if not reply or reply[0] != 1 << 3 | LENGTH_DELIMITED:
            msg = f"no prediction in {reply[:20]!r}"
            raise ValueError(msg)
        size, at = _varint(reply, 1)
        if at + size != len(reply):
            msg = f"more than a prediction in {len(reply)} bytes"
            raise ValueError(msg)
        return reply[at:]


OIP: Final[Dialect] = _Oip()
PLAIN: Final[Dialect] = _Plain()
TORCHSERVE: Final[Dialect] = _TorchServe()
DIALECTS: Final[Mapping[str, Dialect]] = {one.name: one for one in (OIP, PLAIN, TORCHSERVE)}


def _field(number: int, content: bytes) -> bytes:
    """Return a protobuf field of bytes."""
    size, prefix = len(content), bytearray((number << 3 | LENGTH_DELIMITED,))
    while size >> VARINT_BITS:
        prefix.append(size & 0x7F | 0x80)
        size >>= VARINT_BITS
    prefix.append(size)
    return bytes(prefix) + content


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += VARINT_BITS
    msg = "a number without an end"
    raise ValueError(msg)
