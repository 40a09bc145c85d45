"""What a batch returned, cut into the replies of its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.errors import InvalidRequest
from jitney.transport.classification import top_classes
from jitney.transport.framing import bytes_field
from jitney.transport.shared_memory import SharedRequest
from jitney_client.protocol import inference as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jitney.transport.shared_memory import Window
    from jitney.types import BatchOutputs, Buffer, Bytes, OutputTensor, Placed, Timing

__all__ = ["OUTPUT_FIELD", "Cutter", "reply_elsewhere", "reply_head", "timing_parameters"]

OUTPUT_FIELD: Final = 6


class Cutter:
    """Cuts one output of a batch into the rows of its requests."""

    __slots__ = (
        "batched",
        "data",
        "datatype",
        "dims",
        "labels",
        "name",
        "row_bytes",
        "row_offsets",
    )

    def __init__(self, output: OutputTensor, outputs: BatchOutputs) -> None:
        self.name, self.datatype, shape, self.data, self.row_offsets, self.labels = output
        batched = outputs.batched
        self.dims = shape[1:] if batched else shape
        self.row_bytes = len(self.data) // outputs.rows if batched else len(self.data)
        self.batched = batched

    def rows(self, first: int, count: int) -> memoryview:
        """Return the bytes of some rows."""
        if not self.batched:
            return self.data
        if self.row_offsets is not None:
            return self.data[self.row_offsets[first] : self.row_offsets[first + count]]
        return self.data[first * self.row_bytes : (first + count) * self.row_bytes]

    def shape_of(self, rows: int) -> tuple[int, ...]:
        """Return the shape of some rows."""
        return (rows, *self.dims) if self.batched else self.dims


def reply_head(p: Placed, tensors: Sequence[Cutter]) -> bytes:
    """Return a reply without its id and its tensors' bytes."""
    response = _named(p)
    for i in p.outputs:
        tensor = tensors[i]
        response.outputs.add(
            name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape_of(p.rows)
        )
    return response.SerializeToString()


def reply_elsewhere(p: Placed, tensors: Sequence[Cutter], timing: Timing) -> bytes:
    """Return the reply to a request that wants classes, or has tensors in shared memory.

    An output that goes to shared memory is written there, and has no bytes in the reply.

    :raises InvalidRequest: when an input could not be read, or an output cannot be classified or
        does not fit where it should go.
    """
    request = p.request
    header = request.header
    classes = dict(zip(header.outputs, header.classes, strict=False))
    targets: Mapping[str, Window] = {}
    if isinstance(request, SharedRequest):
        if (error := request.lost()) is not None:
            raise error
        targets = request.targets
    response = _named(p)
    response.id = request.id
    parts: list[Buffer] = []
    for i in p.outputs:
        tensor = tensors[i]
        data: Bytes = tensor.rows(p.first_row, p.rows)
        count = classes.get(tensor.name, 0)
        if count:
            rows = p.rows if tensor.batched else 1
            count, data = top_classes(tensor.datatype, data, rows, count, tensor.labels)
            shape = (rows, count) if tensor.batched else (count,)
            response.outputs.add(name=tensor.name, datatype="BYTES", shape=shape)
        else:
            about = response.outputs.add(
                name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape_of(p.rows)
            )
            target = targets.get(tensor.name)
            if target is not None:
                _put(target, data, about)
                data = b""
        parts += (bytes_field(OUTPUT_FIELD, len(data)), data)
    head: bytes = response.SerializeToString()
    if header.parameters and header.parameters.get("jitney_timing") is True:
        head += timing_parameters(timing)
    return b"".join((head, *parts))  # type: ignore[arg-type]  # no remote ones


def timing_parameters(timing: Timing) -> bytes:
    """Return a piece of a reply that holds the stages, in seconds."""
    response = pb.ModelInferResponse()
    for stage, seconds in timing._asdict().items():
        response.parameters[f"jitney_{stage}_seconds"].double_param = seconds
    return response.SerializeToString()


def _named(p: Placed) -> pb.ModelInferResponse:
    return pb.ModelInferResponse(model_name=p.model.name, model_version=str(p.model.version))


def _put(target: Window, data: Bytes, about: pb.ModelInferResponse.InferOutputTensor) -> None:
    if len(data) > len(target):
        msg = (
            f"shared memory size specified with the request for output '{about.name}' "
            f"({len(target)} bytes) should be at least {len(data)} bytes to hold the results"
        )
        raise InvalidRequest(msg)
    target.write(data)
    about.parameters["shared_memory_region"].string_param = target.region.name
    about.parameters["shared_memory_byte_size"].int64_param = len(data)
    if offset := target.at - target.region.offset:
        about.parameters["shared_memory_offset"].int64_param = offset
