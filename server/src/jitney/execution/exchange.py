"""A batch's tensors on their way into a slot and out of it."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

from jitney.execution.executor import Completion
from jitney.execution.slots import aligned
from jitney.execution.wire import Done, Tensor, WireError
from jitney.scheduling import placement
from jitney.types import BatchOutputs, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.datatypes import DataType
    from jitney.execution.slots import Slots
    from jitney.scheduling.batch import Batch, BatchKey

__all__ = ["gather", "read_done"]

REMEMBERED: Final = 4096
"""Layouts, one for each key and number of rows, that are kept."""


def gather(batch: Batch, slots: Slots, slot: int) -> tuple[Tensor, ...]:
    """Copy a batch's inputs into a slot; return where they stand.

    :raises WireError: when they do not fit, which the limits of the batch's key rule out.
    """
    placed = placement.place(batch)
    layout = _fixed_layout(batch.key, batch.rows)
    if layout is None:
        sizes = [
            math.prod(shape) * datatype.item_size
            if datatype.item_size
            else sum(len(p.request.data[p.order[i]]) for _, p in placed)
            for i, (datatype, shape) in enumerate(_shapes(batch.key, batch.rows))
        ]
        layout = _lay_out(batch.key, batch.rows, sizes)
    views = slots.inputs(slot, layout)
    placement.gather(placed, views)
    return layout


def _shapes(key: BatchKey, rows: int) -> list[tuple[DataType, tuple[int, ...]]]:
    lead = (rows,) if key.batched else ()
    return [(datatype, (*lead, *dims)) for datatype, dims in key.inputs]


def _lay_out(key: BatchKey, rows: int, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    tensors = []
    at = 0
    for (datatype, shape), size in zip(_shapes(key, rows), sizes, strict=True):
        tensors.append(Tensor(datatype, shape, at, size))
        at = aligned(at + size)
    return tuple(tensors)


@functools.lru_cache(maxsize=REMEMBERED)
def _fixed_layout(key: BatchKey, rows: int) -> tuple[Tensor, ...] | None:
    """Return where the inputs of a batch stand, None where BYTES make that vary."""
    if not all(datatype.item_size for datatype, _ in key.inputs):
        return None
    sizes = [math.prod(shape) * datatype.item_size for datatype, shape in _shapes(key, rows)]
    return _lay_out(key, rows, sizes)


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
