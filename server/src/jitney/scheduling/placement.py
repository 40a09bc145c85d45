"""Where each request of a closed batch stands, and who holds its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jitney.types import Placed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney.scheduling.batch import Batch, Entry
    from jitney.types import Carrier

__all__ = ["by_carrier", "place"]


def place(batch: Batch) -> list[tuple[Entry, Placed]]:
    """Return every entry of a batch with the rows it occupies, in order."""
    placed = []
    first_row = 0
    model = batch.key.model
    for entry in batch.entries:
        rows = entry.rows
        placed.append(
            (entry, Placed(entry.request, model, first_row, rows, entry.order, entry.outputs))
        )
        first_row += rows
    return placed


def by_carrier(
    placed: Sequence[tuple[Entry, Placed]],
) -> Iterable[tuple[Carrier, Sequence[tuple[Entry, Placed]]]]:
    """Group by the carrier that holds the bytes, keeping the order within each group.

    Nearly always there is one transport and so one group; that case costs one comparison each.
    """
    if not placed:
        return []
    first = placed[0][1].request.carrier
    if all(item[1].request.carrier is first for item in placed):
        return [(first, placed)]
    groups: dict[int, tuple[Carrier, list[tuple[Entry, Placed]]]] = {}
    for item in placed:
        carrier = item[1].request.carrier
        groups.setdefault(id(carrier), (carrier, []))[1].append(item)
    return list(groups.values())
