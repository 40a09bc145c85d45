"""The tensors of a batch, in the memory of the server process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jitney import strings
from jitney.scheduling import placement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney.scheduling.batch import Batch, Entry
    from jitney.types import Placed

__all__ = ["element_ends", "gather", "row_offsets", "shape_of"]


def shape_of(batch: Batch, at: int) -> tuple[int, ...]:
    """Return the shape of a batch's input ``at``, with the batch dimension where there is one."""
    spec = batch.key.inputs[at]
    assert spec is not None  # noqa: S101  # built-in models have no optional inputs: `rules`
    return (batch.rows, *spec[1]) if batch.key.batched else spec[1]


def gather(batch: Batch) -> list[memoryview]:
    """Return the bytes of each input of a batch, in the model's order.

    Those of a request that is alone in its batch are not copied, unless they are somewhere else.
    """
    entries = batch.entries
    if len(entries) == 1 and entries[0].rows == batch.rows:
        data = entries[0].request.data
        own = [data[i] for i in entries[0].inputs]
        views = [memoryview(d) for d in own if isinstance(d, bytes | bytearray | memoryview)]
        if len(views) == len(own):
            return views
    placed = placement.place(batch)
    regions = [
        memoryview(bytearray(_size(batch, at, placed))) for at in range(len(batch.key.inputs))
    ]
    placement.gather(placed, regions)
    return regions


def _size(batch: Batch, at: int, placed: Iterable[tuple[Entry, Placed]]) -> int:
    spec = batch.key.inputs[at]
    item_size = spec[0].item_size if spec is not None else 0
    if item_size:
        return math.prod(shape_of(batch, at)) * item_size
    return sum(len(p.request.data[p.order[at]]) for _, p in placed)


def row_offsets(batch: Batch, at: int, data: memoryview) -> Sequence[int]:
    """Return where each row of an input of BYTES begins in ``data``, and where the last one ends.

    The elements of a request were checked when it came, and may have changed since where its bytes
    are somewhere else. So nothing is believed beyond the bytes of the request: what does not fit
    ends there, and its neighbours keep theirs.
    """
    if not batch.key.batched:
        return (0, len(data))
    elements = math.prod(shape_of(batch, at)[1:])
    offsets = [0]
    for entry in batch.entries:
        start = offsets[-1]
        end = start + len(entry.request.data[entry.inputs[at]])
        if entry.rows > 1:  # nobody need look at the elements of a single row
            inner = _starts(data[start:end], entry.rows, elements)[1:-1]
            offsets.extend(start + at_row for at_row in inner)
        offsets.append(end)
    return offsets


def element_ends(data: memoryview, count: int) -> Sequence[int]:
    """Return where each of the ``count`` elements of a tensor of BYTES ends."""
    return _starts(data, count, 1)[1:]


def _starts(data: memoryview, rows: int, elements: int) -> Sequence[int]:
    starts = list(strings.row_offsets(data, rows, elements))
    missing = rows + 1 - len(starts)
    return starts if not missing else [*starts, *[len(data)] * missing]
