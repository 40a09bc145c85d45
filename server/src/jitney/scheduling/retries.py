"""Parts of failed batches that wait to be run again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from jitney.scheduling.batch import NO_DEADLINE, State, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from jitney.scheduling.batch import Batch, BatchKey, Entry
    from jitney.scheduling.device import DeviceState
    from jitney.scheduling.latency import LatencyModel
    from jitney.types import ModelRef

__all__ = ["Retries"]


class Retries:
    """A queue of batches to be run before anything else; their entries stay RUNNING.

    Whoever takes entries out here ends them.
    """

    __slots__ = ("_batches",)

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()

    def __len__(self) -> int:
        """Return how many parts there are."""
        return len(self._batches)

    def push(self, batch: Batch) -> None:
        """Let a part wait."""
        self._batches.append(batch)

    def models(self) -> set[ModelRef]:
        """Return whose parts there are."""
        return {batch.key.model for batch in self._batches}

    def abandon(self, model: ModelRef) -> list[Entry]:
        """Take out and return the entries of a model, now done."""
        gone = [batch for batch in self._batches if batch.key.model == model]
        self._batches = deque(batch for batch in self._batches if batch.key.model != model)
        return [entry for batch in gone for entry in _ended(batch, NO_DEADLINE)]

    def expire(self, now: float) -> list[Entry]:
        """Take out and return the entries whose deadline has passed, now done."""
        return [entry for batch in self._batches for entry in _ended(batch, now)]

    def next(self) -> float:
        """Return the earliest deadline, NO_DEADLINE if there is none."""
        return min(
            (
                entry.deadline
                for batch in self._batches
                for entry in batch.entries
                if entry.state is State.RUNNING
            ),
            default=NO_DEADLINE,
        )

    def take(
        self,
        device: DeviceState,
        latency_of: Callable[[DeviceState, BatchKey], LatencyModel],
        now: float,
    ) -> tuple[Batch | None, list[Entry]]:
        """Take out the first part that a device may run.

        :returns: the part, ready to start, None if there is none; and entries of it and of others
            before it that would be late, now done.
        """
        late: list[Entry] = []
        for batch in list(self._batches):
            if batch.key.model not in device.models:
                continue
            self._batches.remove(batch)
            latency = latency_of(device, batch.key)
            live = [entry for entry in batch.entries if entry.state is State.RUNNING]
            if live:
                late += _ended(batch, now + latency.planned(rows_of(batch.key, live)))
            batch.entries = [entry for entry in live if entry.state is State.RUNNING]
            if not batch.entries:  # all were cancelled meanwhile, or are late
                continue
            batch.rows = rows_of(batch.key, batch.entries)
            batch.nbytes = sum(entry.nbytes for entry in batch.entries)
            batch.planned = latency.planned(batch.rows)
            batch.device = device.name
            batch.formed_at = now
            return batch, late
        return None, late


def _ended(batch: Batch, by: float) -> list[Entry]:
    """Return the live entries due before ``by``, all of them for NO_DEADLINE, now done."""
    ended = [
        entry
        for entry in batch.entries
        if entry.state is State.RUNNING and (entry.deadline < by or by == NO_DEADLINE)
    ]
    for entry in ended:
        entry.state = State.DONE
    return ended
