"""A model and a transport that exist only in memory: what goes in comes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from jitney.errors import InvalidRequest
from jitney.scheduling.placement import gather, place
from jitney.types import BatchOutputs, Bytes, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.scheduling.batch import Batch
    from jitney.types import ModelRef, Placed, Timing

__all__ = ["EchoCarrier", "EchoReply", "echo"]


class EchoReply(NamedTuple):
    """What ``EchoCarrier`` answers: the bytes of each output by name, copied."""

    id: str
    model: ModelRef
    rows: int
    outputs: dict[str, bytes]
    timing: Timing


class EchoCarrier:
    """A ``types.Carrier`` for requests whose ``data`` are Python buffers.

    It is as strict as a carrier may be: it fills only the rows that a request occupies, and raises
    when a request does not have as many bytes as its rows need. ``gathered`` counts the calls of
    ``gather``, ``replied`` those of ``reply``: one per batch, whatever its size.
    """

    def __init__(self) -> None:
        self.gathered = 0
        self.replied = 0

    def gather(self, placed: Sequence[Placed], inputs: Sequence[memoryview]) -> None:
        """Copy the rows of every request to their place."""
        self.gathered += 1
        for i, region in enumerate(inputs):
            at = 0
            for p in placed:
                part = p.request.data[p.order[i]]
                if isinstance(part, Bytes):
                    region[at : at + len(part)] = part
                else:
                    part.read_into(region[at : at + len(part)])
                at += len(part)

    def reply(
        self, placed: Sequence[Placed], outputs: BatchOutputs, timings: Sequence[Timing]
    ) -> list[EchoReply]:
        """Cut the outputs into the rows of the requests.

        :raises InvalidRequest: when a request's id is ``refuse``; a transport may fail as well.
        """
        self.replied += 1
        if any(p.request.id == "refuse" for p in placed):
            msg = "the reply cannot be encoded"
            raise InvalidRequest(msg)
        return [
            EchoReply(
                p.request.id,
                p.model,
                p.rows,
                {outputs.outputs[i].name: _cut(outputs.outputs[i], outputs, p) for i in p.outputs},
                timing,
            )
            for p, timing in zip(placed, timings, strict=True)
        ]


def _cut(output: OutputTensor, outputs: BatchOutputs, p: Placed) -> bytes:
    if not outputs.batched:
        return bytes(output.data)
    first, last = p.first_row, p.first_row + p.rows
    if output.row_offsets is not None:
        return bytes(output.data[output.row_offsets[first] : output.row_offsets[last]])
    row_bytes = len(output.data) // outputs.rows
    return bytes(output.data[first * row_bytes : last * row_bytes])


def echo(batch: Batch) -> BatchOutputs:
    """Run the identity on a batch: output ``i`` of its key is its input ``i``, of those there are.

    The rows go through the carriers exactly as they would on their way into a slot. Inputs must
    have a fixed size, so BYTES are not supported. A key may have inputs without an output, at the
    end.
    """
    key = batch.key
    rows = batch.rows if key.batched else 1
    inputs = [given for given in key.inputs if given is not None]
    regions = [bytearray(math.prod(dims) * datatype.item_size * rows) for datatype, dims in inputs]
    gather(place(batch), [memoryview(region) for region in regions])
    lead = (batch.rows,) if key.batched else ()
    tensors = [
        OutputTensor(spec.name, datatype, (*lead, *dims), memoryview(region), None)
        for spec, (datatype, dims), region in zip(key.outputs, inputs, regions, strict=False)
    ]
    return BatchOutputs(tensors, batch.rows, key.batched)
