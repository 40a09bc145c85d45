"""The batches that a worker was sent and has not answered."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.bugs import numbered
from jitney.errors import (
    InferenceFailed,
    InputRejected,
    JitneyError,
    OutOfDeviceMemory,
    OutputTooLarge,
    WorkerLost,
)
from jitney.execution import wire
from jitney.execution.exchange import gather, read_done
from jitney.execution.executor import Completion

if TYPE_CHECKING:
    from jitney.execution.link import WorkerLink
    from jitney.scheduling.batch import Batch

__all__ = ["Flight", "Flights"]

log = logging.getLogger(__name__)

FAILURES: Final[dict[wire.Failure, type[JitneyError]]] = {
    wire.Failure.INPUT: InputRejected,
    wire.Failure.MODEL: InferenceFailed,
    wire.Failure.MEMORY: OutOfDeviceMemory,
    wire.Failure.OUTPUT: OutputTooLarge,
    wire.Failure.FAULT: WorkerLost,
}


class Flight(NamedTuple):
    """A batch on its way; ``sent_at`` is when its worker could begin with it."""

    serial: int
    batch: Batch
    slot: int
    sent_at: float


class Flights:
    """First in, first out: a worker answers its batches in the order in which it got them.

    A flight holds its slot from ``send`` until the caller releases it, after ``land``.
    """

    def __init__(self) -> None:
        self._flights: deque[Flight] = deque()

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<Flights {len(self._flights)}>"

    @property
    def first(self) -> Flight | None:
        """The batch that the worker is at."""
        return self._flights[0] if self._flights else None

    def at(self, begun: int | None) -> Flight | None:
        """Return the batch that a worker was at when it ended, None for none.

        Not always the first: its answer may not have been read yet.

        :param begun: the serial of the batch that it says it began last; None where it says none.
        """
        first = self.first
        if first is None or begun is None:
            return first
        for flight in self._flights:
            if flight.serial == begun:
                return flight
        # It may have written anything there, and shall not get away with that.
        return first if begun > first.serial else None

    def send(self, link: WorkerLink, instance: int, serial: int, batch: Batch, now: float) -> None:
        """Gather a batch into a slot and send it off.

        :raises JitneyError: when it cannot be gathered; nothing was sent then.
        """
        slot = link.slots.acquire()
        try:
            tensors = gather(batch, link.slots, slot)
        except Exception as error:
            link.slots.release(slot)
            if isinstance(error, JitneyError):
                raise
            # A carrier is somebody else's code: a bug in it ends one batch, and is found in parts.
            model, what = batch.key.model, "a batch could not be gathered"
            text = numbered(log, what, error, model=model.name, version=model.version)
            raise InferenceFailed(text) from error
        self._flights.append(Flight(serial, batch, slot, now))
        link.send(wire.write_run(serial, instance, batch.rows, slot, tensors))

    def land(
        self, link: WorkerLink, message: wire.Done | wire.Failed, now: float
    ) -> tuple[Flight, Completion]:
        """Return the batch that a message answers, and how it ended.

        The outputs are views into the flight's slot.

        :raises WireError: when it answers no batch, or not as it should.
        """
        flight = self.first
        if flight is None or flight.serial != message.serial:
            msg = "an answer to no batch"
            raise wire.WireError(msg)
        if message.slot != flight.slot:
            msg = "an answer in another slot"
            raise wire.WireError(msg)
        if isinstance(message, wire.Done):
            completion = read_done(flight.batch, link.slots, message)
        else:
            error = FAILURES[message.failure](message.text)
            completion = Completion(None, error, *message.stamps)
        self._flights.popleft()
        self.restart_watch(now)
        return flight, completion

    def restart_watch(self, now: float) -> None:
        """Let the time of the next batch begin now: what was before it has ended."""
        if self._flights:
            self._flights[0] = self._flights[0]._replace(sent_at=now)

    def any_before(self, serial: int) -> bool:
        """Whether the worker was sent a batch before the message with this serial."""
        return any(flight.serial < serial for flight in self._flights)

    def abandon(self) -> list[Flight]:
        """Forget all flights of a worker that is gone, and return them, the oldest first."""
        flights = list(self._flights)
        self._flights.clear()
        return flights
