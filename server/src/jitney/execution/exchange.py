"""A batch's tensors on their way into a slot and out of it."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.execution.executor import Completion
from jitney.execution.slots import aligned
from jitney.execution.wire import Done, Tensor, WireError
from jitney.scheduling import placement
from jitney.types import BatchOutputs, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jitney.datatypes import DataType
    from jitney.execution.slots import Slots
    from jitney.scheduling.batch import Batch, BatchKey, Entry
    from jitney.types import Placed

__all__ = ["gather", "read_done"]

REMEMBERED: Final = 4096
"""Layouts, one for each key and number of rows, that are kept."""


class _Layout(NamedTuple):
    """Where the inputs of a batch stand: all, None for those left out, and those that are there."""

    all: tuple[Tensor | None, ...]
    present: tuple[Tensor, ...]


def gather(batch: Batch, slots: Slots, slot: int) -> tuple[Tensor | None, ...]:
    """Copy a batch's inputs into a slot; return where they stand, None for those left out.

    :raises WireError: when they do not fit, which the limits of the batch's key rule out.
    """
    placed = placement.place(batch)
    layout = _fixed_layout(batch.key, batch.rows)
    if layout is None:
        layout = _lay_out(batch.key, batch.rows, list(_sizes(batch, placed)))
    views = slots.inputs(slot, layout.present)
    placement.gather(placed, views)
    return layout.all


def _sizes(batch: Batch, placed: Sequence[tuple[Entry, Placed]]) -> Iterator[int]:
    """Yield the bytes of each input that is there, rows without entry included."""
    key = batch.key
    gaps = batch.rows - len(placed) if key.fill else 0
    gap_sizes = placement.gap_sizes(key) if gaps else ()
    for i, (datatype, shape) in enumerate(_shapes(key, batch.rows)):
        if datatype.item_size:
            yield math.prod(shape) * datatype.item_size
        else:
            texts = sum(len(p.request.data[p.order[i]]) for _, p in placed)
            yield texts + (gaps * gap_sizes[i] if gaps else 0)


def _shapes(key: BatchKey, rows: int) -> list[tuple[DataType, tuple[int, ...]]]:
    lead = (rows,) if key.batched else ()
    return [(given[0], (*lead, *given[1])) for given in key.inputs if given is not None]


def _lay_out(key: BatchKey, rows: int, sizes: Sequence[int]) -> _Layout:
    tensors = []
    at = 0
    for (datatype, shape), size in zip(_shapes(key, rows), sizes, strict=True):
        tensors.append(Tensor(datatype, shape, at, size))
        at = aligned(at + size)
    present = iter(tensors)
    return _Layout(
        tuple(None if given is None else next(present) for given in key.inputs), tuple(tensors)
    )


@functools.lru_cache(maxsize=REMEMBERED)
def _fixed_layout(key: BatchKey, rows: int) -> _Layout | None:
    """Return where the inputs of a batch stand, None where BYTES make that vary."""
    shapes = _shapes(key, rows)
    if not all(datatype.item_size for datatype, _ in shapes):
        return None
    return _lay_out(key, rows, [math.prod(shape) * kind.item_size for kind, shape in shapes])


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
        outputs.append(
            OutputTensor(spec.name, tensor.datatype, tensor.shape, data, row_offsets, spec.labels)
        )
    return Completion(BatchOutputs(outputs, batch.rows, key.batched), None, *done.stamps)
