"""A batch's tensors on their way into a slot and out of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jitney.execution.executor import Completion
from jitney.execution.wire import Done, Tensor, WireError
from jitney.scheduling.placement import by_carrier, place
from jitney.types import BatchOutputs, OutputTensor

if TYPE_CHECKING:
    from jitney.execution.slots import Slots
    from jitney.scheduling.batch import Batch

__all__ = ["gather", "read_done"]


def gather(batch: Batch, slots: Slots, slot: int) -> list[Tensor]:
    """Copy a batch's inputs into a slot; return where they stand.

    :raises WireError: when they do not fit, which the limits of the batch's key rule out.
    """
    key = batch.key
    placed = place(batch)
    lead = (batch.rows,) if key.batched else ()
    shapes = [(*lead, *dims) for _, dims in key.inputs]
    sizes = []
    for i, (datatype, _) in enumerate(key.inputs):
        if datatype.item_size:
            sizes.append(math.prod(shapes[i]) * datatype.item_size)
        else:
            sizes.append(sum(len(p.request.data[p.order[i]]) for _, p in placed))
    offsets, views = slots.lay_out(slot, sizes)
    for carrier, members in by_carrier(placed):
        carrier.gather([p for _, p in members], views)
    return [
        Tensor(datatype, shape, offset, size)
        for (datatype, _), shape, offset, size in zip(
            key.inputs, shapes, offsets, sizes, strict=True
        )
    ]


def read_done(batch: Batch, slots: Slots, done: Done) -> Completion:
    """Return a batch's outputs as views into its slot, after checking all that the worker said.

    :raises WireError: when an output is not what the model's signature says, or not in the slot.
    """
    key = batch.key
    if len(done.outputs) != len(key.outputs) or done.rows != batch.rows:
        msg = f"{len(done.outputs)} outputs of {done.rows} rows"
        raise WireError(msg)
    outputs = []
    for tensor, spec in zip(done.outputs, key.outputs, strict=True):
        if tensor.datatype is not spec.datatype or (
            key.batched and tensor.shape[:1] != (batch.rows,)
        ):
            msg = f"output {spec.name} is {tensor.datatype.value} {tensor.shape}"
            raise WireError(msg)
        data, row_offsets = slots.output(done.slot, tensor, batch.rows)
        if key.batched and row_offsets is None and not tensor.datatype.item_size:
            msg = f"output {spec.name} has no row offsets"
            raise WireError(msg)
        outputs.append(OutputTensor(spec.name, tensor.datatype, tensor.shape, data, row_offsets))
    return Completion(BatchOutputs(outputs, batch.rows, key.batched), None, *done.stamps)
