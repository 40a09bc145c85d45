"""Between protocol messages and requests: the only file that knows both.

A request's tensors stay where they are in the received message until they are gathered into a
batch; a reply is joined straight from the batch's outputs. So a tensor is copied once each way.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest, NotSupported
from jitney.transport.contents import raw_of
from jitney.transport.framing import bytes_field, cut
from jitney.types import Request, RequestHeader, TensorHeader
from jitney_client.protocol import inference as pb
from jitney_client.protocol.message import DecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.types import BatchOutputs, Buffer, ModelRef, Placed, Timing

__all__ = ["Codec"]

MAX_TENSORS: Final = 64
MAX_PARAMETERS: Final = 64
MAX_RANK: Final = 16
MAX_NAME: Final = 128
"""Caps straight after the parse: a message of 4 MiB can hold two million empty inputs."""

MAX_TEXT: Final = 256
"""Characters of a parameter's text that are kept."""

REMEMBERED: Final = 2048
"""Request heads kept, and reply heads; past it all are forgotten (see ``RequestHeader``)."""
LONGEST_REMEMBERED: Final = 4096
"""Bytes; a longer head is parsed every time, so that what is kept stays within 8 MiB."""

DATATYPES: Final = {datatype.value: datatype for datatype in DataType}
KNOWN_PARAMETERS: Final = frozenset({"triton_enable_empty_final_response"})
NUMBERS: Final = {"priority": ("int64_param", "uint64_param"), "timeout": ("int64_param",)}
"""Parameters that the server acts on: how each may come. None may be negative."""
JOIN_BELOW: Final = 16 * 1024
"""Bytes; requests up to this size are joined first and copied once, which is cheaper per request
than assigning each one to its place."""

OUTPUT_FIELD: Final = 6
ID_FIELD: Final = 3


class Codec:
    """Decodes requests, and carries their bytes for one server: a ``types.Carrier``.

    It knows no model: whether the inputs are those of the model is checked by who knows it.
    """

    def __init__(self) -> None:
        self._headers: dict[bytes, RequestHeader] = {}
        self._typed: dict[object, RequestHeader] = {}
        self._reply_heads: dict[object, bytes] = {}

    # -- in -------------------------------------------------------------------------------------

    def decode(self, message: bytes, deadline: float, tenant: str = "") -> Request:
        """Decode a serialised ModelInferRequest.

        :param deadline: in the clock's monotonic seconds, infinite where the caller set none.
        :param tenant: on whose behalf the call is made.
        :raises InvalidRequest: when it is malformed, over the caps, or has raw and typed contents.
        :raises NotSupported: when it uses what this server does not offer.
        """
        head, request_id, raw, micros = cut(message)
        header = self._headers.get(head)
        data: Sequence[Buffer] = raw
        if header is None:
            header, typed = self._parse(head, has_raw=bool(raw))
            if typed is not None:
                data = typed
        if len(data) != len(header.inputs):
            raise _wrong_count(header, len(data))
        try:
            text = request_id.decode() if request_id else ""
        except UnicodeDecodeError:
            msg = "the request's id is not UTF-8"
            raise InvalidRequest(msg) from None
        if micros is None and header.parameters is not None:
            micros = int(header.parameters.get("timeout", 0))
        timeout = _seconds(micros) if micros else math.inf
        return Request(
            header, data, self, id=text, deadline=deadline, timeout=timeout, tenant=tenant
        )

    def _parse(
        self, head: bytes, *, has_raw: bool
    ) -> tuple[RequestHeader, Sequence[Buffer] | None]:
        """Parse a head that was not seen before; return it, and the typed contents if any."""
        try:
            message = pb.ModelInferRequest.FromString(head)
        except DecodeError:
            msg = "the message is not a ModelInferRequest"
            raise InvalidRequest(msg) from None
        model = message.model_name
        _check_caps(message)
        inputs = tuple(_tensor_header(tensor, model) for tensor in message.inputs)
        outputs = tuple(_output_name(output) for output in message.outputs)
        parameters = _parameters(message.parameters)
        recurs = len(head) <= LONGEST_REMEMBERED
        priority = int(parameters.get("priority", 0)) if parameters else 0
        header = RequestHeader(
            model, message.model_version, inputs, outputs, parameters, recurs, priority
        )
        typed = None
        for at, tensor in enumerate(message.inputs):
            if not tensor.HasField("contents"):
                continue
            if has_raw:
                msg = (
                    "contents field must not be specified when using raw_input_contents for "
                    f"'{tensor.name}' for model '{model}'"
                )
                raise InvalidRequest(msg)
            typed = typed or [b""] * len(inputs)
            typed[at] = raw_of(tensor, inputs[at].datatype, model)
        if typed is not None:
            return self._intern_typed(header), typed
        if recurs:
            if len(self._headers) >= REMEMBERED:
                self._headers.clear()
            self._headers[head] = header
        return header, None

    def _intern_typed(self, header: RequestHeader) -> RequestHeader:
        # The head of a typed request holds its values, so it never recurs; what it declares does.
        key = (
            header.model_name,
            header.model_version,
            header.inputs,
            header.outputs,
            # With their types: 1, 1.0 and true are equal, and mean different things.
            frozenset((k, type(v), v) for k, v in (header.parameters or {}).items()),
        )
        if len(self._typed) >= REMEMBERED:
            self._typed.clear()
        return self._typed.setdefault(key, dataclasses.replace(header, recurs=True))

    # -- the bytes of a batch -------------------------------------------------------------------

    def gather(self, placed: Sequence[Placed], inputs: Sequence[memoryview]) -> None:
        """Copy the rows of every request into the batch's inputs."""
        for i, region in enumerate(inputs):
            parts = [p.request.data[p.order[i]] for p in placed]
            if len(region) <= JOIN_BELOW * len(parts):
                region[:] = b"".join(parts)
                continue
            at = 0
            for part in parts:
                region[at : at + len(part)] = part
                at += len(part)

    def reply(
        self, placed: Sequence[Placed], outputs: BatchOutputs, timings: Sequence[Timing]
    ) -> list[bytes]:
        """Return the serialised ModelInferResponse of every request."""
        tensors = [_Cutter(*output[1:], outputs.rows, outputs.batched) for output in outputs[0]]
        shapes = tuple(tensor.dims for tensor in tensors)
        names = [output.name for output in outputs.outputs]
        replies = []
        for p, timing in zip(placed, timings, strict=True):
            header = p.request.header
            key = (header, p.model, shapes)
            head = self._reply_heads.get(key)
            if head is None:
                head = self._reply_head(p, tensors, names)
                if header.recurs:
                    if len(self._reply_heads) >= REMEMBERED:
                        self._reply_heads.clear()
                    self._reply_heads[key] = head
            parts: list[Buffer] = [head]
            if p.request.id:
                encoded = p.request.id.encode()
                parts += (bytes_field(ID_FIELD, len(encoded)), encoded)
            if header.parameters and header.parameters.get("jitney_timing") is True:
                parts.append(_timing_parameters(timing))
            for i in p.outputs:
                data = tensors[i].rows(p.first_row, p.rows)
                parts += (bytes_field(OUTPUT_FIELD, len(data)), data)
            replies.append(b"".join(parts))
        return replies

    def _reply_head(self, p: Placed, tensors: Sequence[_Cutter], names: Sequence[str]) -> bytes:
        model: ModelRef = p.model
        response = pb.ModelInferResponse(model_name=model.name, model_version=str(model.version))
        for i in p.outputs:
            tensor = tensors[i]
            response.outputs.add(
                name=names[i], datatype=tensor.datatype.value, shape=tensor.shape_of(p.rows)
            )
        return response.SerializeToString()


class _Cutter:
    """Cuts one output of a batch into the rows of its requests."""

    __slots__ = ("batched", "data", "datatype", "dims", "row_bytes", "row_offsets")

    def __init__(
        self,
        datatype: DataType,
        shape: tuple[int, ...],
        data: memoryview,
        row_offsets: Sequence[int] | None,
        rows: int,
        batched: bool,  # noqa: FBT001
    ) -> None:
        self.datatype = datatype
        self.dims = shape[1:] if batched else shape
        self.data = data
        self.row_offsets = row_offsets
        self.row_bytes = len(data) // rows if batched else len(data)
        self.batched = batched

    def rows(self, first: int, count: int) -> memoryview:
        if not self.batched:
            return self.data
        if self.row_offsets is not None:
            return self.data[self.row_offsets[first] : self.row_offsets[first + count]]
        return self.data[first * self.row_bytes : (first + count) * self.row_bytes]

    def shape_of(self, rows: int) -> tuple[int, ...]:
        return (rows, *self.dims) if self.batched else self.dims


def _check_caps(message: pb.ModelInferRequest) -> None:
    for what, count, cap in (
        ("inputs", len(message.inputs), MAX_TENSORS),
        ("requested outputs", len(message.outputs), MAX_TENSORS),
        ("parameters", len(message.parameters), MAX_PARAMETERS),
        ("characters in the model's name", len(message.model_name), MAX_NAME),
        ("characters in the model's version", len(message.model_version), MAX_NAME),
    ):
        if count > cap:
            msg = f"the request has {count} {what}, at most {cap} are allowed"
            raise InvalidRequest(msg)


def _tensor_header(tensor: pb.ModelInferRequest.InferInputTensor, model: str) -> TensorHeader:
    if len(tensor.name) > MAX_NAME or len(tensor.shape) > MAX_RANK:
        msg = (
            f"input '{tensor.name[:MAX_NAME]}' for model '{model}': at most {MAX_RANK} "
            f"dimensions and {MAX_NAME} characters of name are allowed"
        )
        raise InvalidRequest(msg)
    if "shared_memory_region" in tensor.parameters:
        msg = "Client shared memory is disabled"
        raise NotSupported(msg)
    datatype = DATATYPES.get(tensor.datatype)
    if datatype is None:
        msg = (
            f"input '{tensor.name}' for model '{model}' has the datatype "
            f"'{tensor.datatype[:20]}'; known are {', '.join(DATATYPES)}"
        )
        raise InvalidRequest(msg)
    return TensorHeader(tensor.name, datatype, tuple(tensor.shape))


def _output_name(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> str:
    for parameter, text in (
        ("shared_memory_region", "Client shared memory is disabled"),
        ("classification", "the classification extension is not supported"),
    ):
        if parameter in output.parameters:
            raise NotSupported(text)
    if len(output.name) > MAX_NAME:
        msg = (
            f"requested output '{output.name[:MAX_NAME]}': at most {MAX_NAME} characters of name "
            "are allowed"
        )
        raise InvalidRequest(msg)
    return str(output.name)


def _parameters(
    given: Mapping[str, pb.InferParameter],
) -> dict[str, bool | int | str | float] | None:
    """Check a request's own parameters; unknown ones are kept, reserved ones are refused.

    Of a text only the beginning is kept: headers are remembered by whoever plans with them, and a
    thousand callers' megabytes that nobody reads would stay in memory with them.
    """
    if not given:
        return None
    values: dict[str, bool | int | str | float] = {}
    for key, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        if len(key) > MAX_NAME:
            msg = f"parameter '{key[:MAX_NAME]}': at most {MAX_NAME} characters are allowed"
            raise InvalidRequest(msg)
        if key in NUMBERS:
            if kind not in NUMBERS[key] or getattr(parameter, kind) < 0:
                raise _not_a_number(key)
        elif kind is None or kind == "uint64_param":
            msg = f"parameter '{key}' must be a bool, an int64, a double or a string"
            raise InvalidRequest(msg)
        if key.startswith("triton_") and key not in KNOWN_PARAMETERS:
            msg = f"parameter '{key}' is reserved"
            raise InvalidRequest(msg)
        value = getattr(parameter, kind)
        values[key] = value[:MAX_TEXT] if isinstance(value, str) else value
    return values


def _not_a_number(key: str) -> InvalidRequest:
    kinds = " or ".join(kind.removesuffix("_param") for kind in NUMBERS[key])
    return InvalidRequest(f"parameter '{key}' must be an {kinds}, 0 or more")


def _seconds(micros: int) -> float:
    if micros < 0:
        key = "timeout"
        raise _not_a_number(key)
    return micros / 1e6


def _wrong_count(header: RequestHeader, count: int) -> InvalidRequest:
    if count < len(header.inputs):
        name = header.inputs[count].name
        return InvalidRequest(
            f"unable to find data for input tensor '{name}' for model '{header.model_name}' in "
            f"request."
        )
    return InvalidRequest(
        f"raw_input_contents has {count} entries for the {len(header.inputs)} inputs of a request "
        f"for model '{header.model_name}'"
    )


def _timing_parameters(timing: Timing) -> bytes:
    response = pb.ModelInferResponse()
    for stage, seconds in timing._asdict().items():
        response.parameters[f"jitney_{stage}_seconds"].double_param = seconds
    return response.SerializeToString()
