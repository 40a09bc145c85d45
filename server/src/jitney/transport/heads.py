"""The head of a request, which is all of it but its raw tensors, parsed and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.datatypes import DataType
from jitney.errors import InvalidRequest
from jitney.transport.contents import Allowance, raw_of, raw_of_wire
from jitney.transport.framing import cut_contents
from jitney.transport.parameters import (
    MAX_NAME,
    REGION,
    class_count,
    location,
    request_parameters,
)
from jitney.types import RequestHeader, TensorHeader
from jitney_client.protocol import inference as pb
from jitney_client.protocol.message import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.transport.shared_memory import Location, RegionRegistry
    from jitney.types import Bytes

__all__ = ["LONGEST_REMEMBERED", "Head", "Spots", "parse_head"]

MAX_TENSORS: Final = 64
MAX_PARAMETERS: Final = 64
MAX_RANK: Final = 16
"""Caps straight after the parse: a message of 4 MiB can hold two million empty inputs."""

MAX_HEAD: Final = 1 << 20
"""Bytes of a head without typed contents that were cut out of it."""
LONGEST_REMEMBERED: Final = 4096
"""Bytes; nothing is remembered under a longer head, so that what is kept stays within 8 MiB."""
LONGEST_WHOLE: Final = 64 * 1024
"""Bytes; out of a longer head, typed contents are cut before it is parsed: protobuf makes an object
of each of their values."""

DATATYPES: Final = {datatype.value: datatype for datatype in DataType}


class Spots(NamedTuple):
    """Where tensors of a request stand in shared memory: inputs by index, outputs by name."""

    inputs: tuple[tuple[int, Location], ...]
    outputs: tuple[tuple[str, Location], ...]


class Head(NamedTuple):
    """What a head says.

    ``typed`` are typed contents as raw bytes, of each input that is not in shared memory; None
    where there are none. ``spots`` is None where nothing is in shared memory.
    """

    header: RequestHeader
    typed: Sequence[Bytes] | None = None
    spots: Spots | None = None


def parse_head(head: bytes, regions: RegionRegistry, *, has_raw: bool) -> Head:
    """Parse a head.

    :param regions: where shared memory is registered; only whether it may be used counts.
    :param has_raw: whether raw tensors came with it, which excludes typed ones.
    :raises InvalidRequest: when it is malformed, over the caps, or contradicts itself.
    :raises NotSupported: when it uses shared memory, and may not.
    """
    short, contents = head, None
    if len(head) > LONGEST_WHOLE:
        short, contents = cut_contents(head)
    if len(short) > MAX_HEAD:
        msg = f"the request has more than {MAX_HEAD} bytes beside its tensors"
        raise InvalidRequest(msg)
    try:
        message = pb.ModelInferRequest.FromString(short)
    except DecodeError:
        msg = "the message is not a ModelInferRequest"
        raise InvalidRequest(msg) from None
    _check_caps(message)
    model = message.model_name
    parameters = request_parameters(message.parameters)
    classes = tuple(class_count(output.parameters, output.name) for output in message.outputs)
    header = RequestHeader(
        model,
        message.model_version,
        tuple(_tensor_header(tensor, model) for tensor in message.inputs),
        tuple(_output_name(output) for output in message.outputs),
        parameters,
        recurs=len(head) <= LONGEST_REMEMBERED,
        priority=int(parameters.get("priority", 0)) if parameters else 0,
        classes=classes if any(classes) else (),
    )
    spots = _spots(message, regions)
    elsewhere = {i for i, _ in spots.inputs} if spots else set()
    typed = _typed(message, header.inputs, contents, elsewhere, has_raw=has_raw)
    return Head(header, typed, spots)


def _spots(message: pb.ModelInferRequest, regions: RegionRegistry) -> Spots | None:
    parameters = [
        *(tensor.parameters for tensor in message.inputs),
        *(output.parameters for output in message.outputs),
    ]
    if not any(parameters):
        return None
    if any(REGION in given for given in parameters):
        regions.ensure_enabled()
    inputs = tuple(
        (i, spot)
        for i, tensor in enumerate(message.inputs)
        if (spot := location(tensor.parameters, f"input '{tensor.name}'"))
    )
    outputs = tuple(
        (output.name, spot)
        for output in message.outputs
        if (spot := location(output.parameters, f"requested output '{output.name}'"))
    )
    return Spots(inputs, outputs) if inputs or outputs else None


def _typed(
    message: pb.ModelInferRequest,
    inputs: Sequence[TensorHeader],
    contents: Sequence[memoryview | None] | None,
    elsewhere: set[int],
    *,
    has_raw: bool,
) -> list[Bytes] | None:
    """Return the typed contents of the inputs as raw bytes, None where there are none.

    :param contents: what was cut out of the message, by input; None where nothing was.
    :param elsewhere: the inputs that are in shared memory; they are left out.
    """
    model = message.model_name
    given = [
        tensor.HasField("contents") if contents is None else contents[i] is not None
        for i, tensor in enumerate(message.inputs)
    ]
    if not any(given):
        return None
    raw: list[Bytes] = []
    allowance = Allowance()
    for i, tensor in enumerate(message.inputs):
        if given[i] and i in elsewhere:
            msg = (
                "unexpected 'content' provided when using shared memory for input tensor "
                f"'{tensor.name}' for model '{model}'"
            )
            raise InvalidRequest(msg)
        if given[i] and has_raw:
            msg = (
                "contents field must not be specified when using raw_input_contents for "
                f"'{tensor.name}' for model '{model}'"
            )
            raise InvalidRequest(msg)
        if i in elsewhere:
            continue
        if not given[i]:
            if not has_raw and 0 not in inputs[i].shape:
                msg = (
                    f"unable to find data for input tensor '{tensor.name}' for model '{model}' in "
                    "request."
                )
                raise InvalidRequest(msg)
            raw.append(b"")
        elif contents is None or (cut_out := contents[i]) is None:
            raw.append(raw_of(tensor, inputs[i].datatype, model))
        else:
            raw.append(raw_of_wire(cut_out, tensor, inputs[i].datatype, model, allowance))
    return raw


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
    datatype = DATATYPES.get(tensor.datatype)
    if datatype is None:
        msg = (
            f"input '{tensor.name}' for model '{model}' has the datatype "
            f"'{tensor.datatype[:20]}'; known are {', '.join(DATATYPES)}"
        )
        raise InvalidRequest(msg)
    return TensorHeader(tensor.name, datatype, tuple(tensor.shape))


def _output_name(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> str:
    if len(output.name) > MAX_NAME:
        msg = (
            f"requested output '{output.name[:MAX_NAME]}': at most {MAX_NAME} characters of name "
            "are allowed"
        )
        raise InvalidRequest(msg)
    return str(output.name)
