"""Where each request of a closed batch stands, and who holds its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.types import Placed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney.scheduling.batch import Batch, Entry
    from jitney.types import Carrier

__all__ = ["gather", "place", "runs_of_carriers"]


def place(batch: Batch) -> list[tuple[Entry, Placed]]:
    """Return every entry of a batch with the rows it occupies, in order."""
    placed = []
    first_row = 0
    model = batch.key.model
    for entry in batch.entries:
        rows = entry.rows
        placed.append(
            (entry, Placed(entry.request, model, first_row, rows, entry.inputs, entry.outputs))
        )
        first_row += rows
    return placed


def gather(placed: Sequence[tuple[Entry, Placed]], inputs: Sequence[memoryview]) -> None:
    """Let every carrier fill its requests' part of a batch's inputs.

    :param inputs: the regions of the whole batch, in the model's order.
    """
    at = [0] * len(inputs)
    for carrier, members in runs_of_carriers(placed):
        requests = [p for _, p in members]
        if len(requests) == len(placed):
            carrier.gather(requests, inputs)
            return
        parts = []
        for i, region in enumerate(inputs):
            size = sum(len(p.request.data[p.order[i]]) for p in requests)
            parts.append(region[at[i] : at[i] + size])
            at[i] += size
        carrier.gather(requests, parts)


def runs_of_carriers(
    placed: Sequence[tuple[Entry, Placed]],
) -> Iterable[tuple[Carrier, Sequence[tuple[Entry, Placed]]]]:
    """Cut into runs of neighbours whose bytes are held by the same carrier.

    Nearly always there is one transport and so one run; that case costs one comparison each.
    """
    if not placed:
        return []
    first = placed[0][1].request.carrier
    if all(item[1].request.carrier is first for item in placed):
        return [(first, placed)]
    runs: list[tuple[Carrier, list[tuple[Entry, Placed]]]] = []
    for item in placed:
        carrier = item[1].request.carrier
        if not runs or runs[-1][0] is not carrier:
            runs.append((carrier, []))
        runs[-1][1].append(item)
    return runs
