"""Entries that wait: each put in its place, and taken out when its time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.scheduling import refusals
from jitney.scheduling.batch import NO_DEADLINE, PRIORITIES, State

if TYPE_CHECKING:
    from jitney.errors import JitneyError
    from jitney.scheduling.backlog import Backlog
    from jitney.scheduling.batch import Entry
    from jitney.scheduling.fairness import Flows, Tenants
    from jitney.scheduling.fleet import Fleet
    from jitney.scheduling.host import HostCost
    from jitney.scheduling.queue import KeyQueue

__all__ = ["Waiting"]

ALLOWED: Final = 1.25
"""How much longer than usual, at its time, the batch of an entry may take that must only start by
some moment."""
HURRIED: Final = 0.9
"""Part of the usual slack below which an entry is in a hurry."""
UNKNOWN_ROW: Final = 1e-3
"""Seconds that a row is thought to take where nothing is known, for turns."""


class Waiting:
    """Gives entries their positions in the backlog, counts what they ask for, and expires them.

    A position is the latest end of an entry's batch where it has a deadline, else its turn among
    those that have none.
    """

    __slots__ = ("_backlog", "_fleet", "_flows", "_host", "_tenants")

    def __init__(
        self, backlog: Backlog, fleet: Fleet, flows: Flows, tenants: Tenants, host: HostCost
    ) -> None:
        self._backlog = backlog
        self._fleet = fleet
        self._flows = flows
        self._tenants = tenants
        self._host = host

    def margin(self, queue: KeyQueue) -> float:
        """Return the seconds to allow for a lone request, beside the device's."""
        return self._host.margin(1, queue.slo or NO_DEADLINE)

    def place(self, queue: KeyQueue, entry: Entry, margin: float) -> None:
        """Give a timed entry its position: the latest end of its batch."""
        entry.position = entry.deadline
        if entry.start_by != NO_DEADLINE:
            usual = queue.latency.planned(max(entry.span, queue.best_rows)) + margin
            entry.position = min(entry.deadline, entry.start_by + ALLOWED * usual)

    def turn_of(self, queue: KeyQueue, entry: Entry) -> float:
        """Return the position of an entry without deadline."""
        return self._flows.tag(entry, entry.rows * (queue.latency.row_seconds or UNKNOWN_ROW))

    def note_demand(self, queue: KeyQueue, entry: Entry, now: float) -> None:
        """Count the demand of an entry that could be served, whether or not it will be.

        What no device could do in time is nobody's demand: counted, it would make the time that
        requests bring look shorter than any batch, and the server look overloaded.
        """
        queue.note_arrival(entry, now)
        if queue.worth and (entry.tenant or len(self._backlog.queues) > 1):
            seconds = entry.rows / queue.worth
            if entry.position - now < HURRIED * queue.slo:
                # It is served in a small batch, which costs more for each row.
                room = queue.latency.rows_within((entry.position - now) / queue.load.turns)
                rows = max(1, min(room, queue.best_rows))
                seconds = entry.rows * queue.latency.planned(rows) / rows
            self._tenants.note_arrival(entry, seconds, queue.slo, now)

    def remove(self, entry: Entry) -> None:
        """Take a waiting entry out for good; its flow is not charged for what is not done."""
        self._backlog.remove(entry)
        if not entry.is_timed:
            self._flows.withdraw(entry)

    def expire(self, now: float) -> list[tuple[Entry, JitneyError]]:
        """Take out what can no longer be in time; return it with what to tell."""
        refused: list[tuple[Entry, JitneyError]] = []
        expiries = self._backlog.expiries
        for entry in expiries.pop_until(now):
            if entry.state is not State.QUEUED or not entry.is_timed:
                continue  # it was put back and so is in the heap twice
            queue = self._backlog.queue(entry.key, now, self._fleet)
            last = queue.last_moment(entry, self.margin(queue))
            if last >= now:
                # It is estimated to take less time than when this moment was set.
                expiries.postpone(last, entry)
                continue
            late_class = queue.key.delays_late
            if late_class and late_class[entry.priority] and entry.start_by < now:
                self._put_last(queue, entry)
                if not entry.is_timed or queue.last_moment(entry, self.margin(queue)) >= now:
                    continue
            self.remove(entry)
            refused.append((entry, refusals.expired(entry, now)))
        return refused

    def _put_last(self, queue: KeyQueue, entry: Entry) -> None:
        """Let an entry that did not start in time wait on, behind all others of its model.

        It is of the lowest class from then on. Its deadline, if it has one, still holds; without
        one it has no time to keep any more, and waits like those that never had.
        """
        self._backlog.withdraw(entry)
        entry.start_by = NO_DEADLINE
        entry.priority = PRIORITIES - 1
        entry.is_timed = entry.deadline != NO_DEADLINE
        if entry.is_timed:
            entry.position = entry.deadline
        else:
            last = self._backlog.last_turn(entry.key.model)
            entry.position = max(last, self.turn_of(queue, entry))
        self._backlog.push(queue, entry, self.margin(queue))
