"""Where each request of a closed batch stands, and who holds its bytes."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

from jitney.types import Placed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jitney.scheduling.batch import Batch, BatchKey, Entry
    from jitney.types import Carrier

    Run = Sequence[tuple[Entry, Placed]]

__all__ = ["gap_sizes", "gather", "place", "runs_of_carriers"]

EMPTY_TEXT: Final = 4
"""Bytes of an element of a BYTES tensor that has none of its own: its length."""


def place(batch: Batch) -> list[tuple[Entry, Placed]]:
    """Return every entry of a batch with the rows it occupies, in the order of the rows.

    Asked for when a batch leaves and when it is answered; made once.
    """
    if (placed := batch.placed) is not None:
        return placed
    placed = batch.placed = []
    first_row = 0
    model = batch.key.model
    if batch.key.fill:
        for e in sorted(batch.entries, key=_row):
            placed.append((e, Placed(e.request, model, e.row, 1, e.inputs, e.outputs)))
        return placed
    for entry in batch.entries:
        rows = entry.rows
        placed.append(
            (entry, Placed(entry.request, model, first_row, rows, entry.inputs, entry.outputs))
        )
        first_row += rows
    return placed


def gather(placed: Run, inputs: Sequence[memoryview]) -> None:
    """Let every carrier fill its requests' part of a batch's inputs, and fill the gaps.

    :param placed: all of a batch, as ``place`` returned it.
    :param inputs: the regions of the whole batch, in the model's order, without those of inputs
        that are left out.
    """
    if not placed:
        return
    key = placed[0][0].key
    at = [0] * len(inputs)
    row = 0
    for carrier, members in runs_of_carriers(placed):
        requests = [p for _, p in members]
        if len(requests) == len(placed) and not key.fill:
            carrier.gather(requests, inputs)
            return
        for run in _without_gaps(requests) if key.fill else (requests,):
            if key.fill:
                _fill(key, inputs, at, run[0].first_row - row)
                row = run[0].first_row + len(run)
            parts = []
            for i, region in enumerate(inputs):
                size = sum(len(p.request.data[p.order[i]]) for p in run)
                parts.append(region[at[i] : at[i] + size])
                at[i] += size
            carrier.gather(run, parts)


def gap_sizes(key: BatchKey) -> Sequence[int]:
    """Return the bytes of a row without entry, for each input that is there."""
    present = [given for given in key.inputs if given is not None]
    return [
        len(row) or math.prod(dims) * (datatype.item_size or EMPTY_TEXT)
        for row, (datatype, dims) in zip(key.fill, present, strict=True)
    ]


def _fill(key: BatchKey, inputs: Sequence[memoryview], at: list[int], rows: int) -> None:
    """Write rows without entry, and move ``at`` behind them. Slots are not empty: they had others'.

    BYTES without bytes are so many texts of length 0, which is also written as zeros.
    """
    if not rows:
        return
    for i, (region, size) in enumerate(zip(inputs, gap_sizes(key), strict=True)):
        end = at[i] + rows * size
        region[at[i] : end] = (key.fill[i] or bytes(size)) * rows
        at[i] = end


def _without_gaps(requests: Sequence[Placed]) -> Iterator[Sequence[Placed]]:
    """Cut into runs of neighbouring rows."""
    numbered = enumerate(requests)
    for _, run in itertools.groupby(numbered, key=lambda item: item[1].first_row - item[0]):
        yield [p for _, p in run]


def runs_of_carriers(placed: Run) -> Iterable[tuple[Carrier, Run]]:
    """Cut into runs of neighbours whose bytes are held by the same carrier.

    Nearly always there is one transport and so one run; that case costs one comparison each.
    """
    if not placed:
        return []
    first = placed[0][1].request.carrier
    for item in placed:
        if item[1].request.carrier is not first:
            break
    else:
        return [(first, placed)]
    runs: list[tuple[Carrier, list[tuple[Entry, Placed]]]] = []
    for item in placed:
        carrier = item[1].request.carrier
        if not runs or runs[-1][0] is not carrier:
            runs.append((carrier, []))
        runs[-1][1].append(item)
    return runs


def _row(entry: Entry) -> int:
    return entry.row
