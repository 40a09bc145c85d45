"""What of a failed batch is run again, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.errors import (
    InferenceFailed,
    InputRejected,
    OutOfDeviceMemory,
    OutputTooLarge,
    WorkerLost,
)
from jitney.scheduling.batch import Batch, Reason, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Entry

__all__ = ["harm", "parts_of"]

SPLIT_ERRORS: Final = (InferenceFailed, OutOfDeviceMemory, OutputTooLarge)
"""Failures that may be one member's doing: a batch that ends so is run again in parts."""
MOST_LOSSES: Final = 2
"""Workers that may end under an entry before it is run no more."""
MOST_PARTS: Final = 64
"""A batch that may have ended its worker is run again in so many parts at most. Each entry alone is
best: in halves, the search for one culprit would end six workers instead of two."""


def parts_of(batch: Batch, live: Sequence[Entry], error: JitneyError) -> list[Batch]:
    """Return what is to be run again of a batch that failed, nothing where that ends it.

    1. A stateful model has moved on: nothing.
    2. A failure that one member may have caused: in halves, until it stands alone.
    3. The worker ended, by no fault of the batch: as it is.
    4. The worker ended, and the batch may have done it: each entry alone. Two workers at most end
       because of one request, and nobody but it is told so.

    :param live: the entries of the batch that are still waited for.
    """
    if batch.key.stateful or not live:
        return []
    if isinstance(error, SPLIT_ERRORS) and len(live) > 1:
        middle = len(live) // 2
        return [_part(batch, live[:middle]), _part(batch, live[middle:])]
    if not isinstance(error, WorkerLost) or batch.losses >= MOST_LOSSES:
        return []
    if error.rerun == "whole":
        return [_part(batch, live, losses=1)]
    if error.rerun == "apart" and len(live) > 1:
        size = -(-len(live) // MOST_PARTS)
        return [
            _part(batch, live[at : at + size], losses=1, suspected=1)
            for at in range(0, len(live), size)
        ]
    return []


def _part(batch: Batch, entries: Sequence[Entry], *, losses: int = 0, suspected: int = 0) -> Batch:
    rows = rows_of(batch.key, entries)
    part = Batch(batch.key, list(entries), rows, Reason.RETRY, "", batch.formed_at)
    part.losses = batch.losses + losses
    part.suspected = batch.suspected + suspected
    return part


def harm(batch: Batch, error: JitneyError) -> int:
    """Return how much harm an entry did that failed alone: workers ended, or batches failed.

    One that the model rejects in a batch of its own did none: it has cost nobody but its caller.
    Nor did workers that somebody else ended.
    """
    if isinstance(error, WorkerLost):
        return batch.suspected + 1 if error.suspect else 0
    return int(isinstance(error, InputRejected) and batch.reason is Reason.RETRY)
