"""Who is let in: refusals that are certain come at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jitney.scheduling import refusals
from jitney.scheduling.backlog import CANDIDATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.scheduling.backlog import Backlog
    from jitney.scheduling.batch import Entry
    from jitney.scheduling.chooser import Chooser
    from jitney.scheduling.fairness import Tenants
    from jitney.scheduling.fleet import Fleet
    from jitney.scheduling.host import HostCost
    from jitney.scheduling.queue import KeyQueue

__all__ = ["Intake"]

DOUBT_AFTER: Final = 1.0
"""Seconds without a batch after which a refusal casts doubt on how long batches take."""


class Intake:
    """Checks newcomers against the clock, the backlog and the limits of the queue."""

    __slots__ = ("_backlog", "_chooser", "_fleet", "_host", "_tenants")

    def __init__(
        self,
        backlog: Backlog,
        fleet: Fleet,
        tenants: Tenants,
        host: HostCost,
        chooser: Chooser,
    ) -> None:
        self._backlog = backlog
        self._fleet = fleet
        self._tenants = tenants
        self._host = host
        self._chooser = chooser

    def check_possible(self, queue: KeyQueue, entry: Entry, least: float, now: float) -> None:
        """Refuse an entry that no device could do in time.

        :param least: seconds that it takes alone.
        :raises DeadlineTooShort: when that is too long.
        """
        if now + least <= entry.deadline:
            return
        if now - queue.evidence_at > DOUBT_AFTER:
            # Refusing keeps us from learning better, so what was learnt is worth less.
            queue.latency.doubt(now - queue.evidence_at)
            self._host.doubt(now)
            queue.evidence_at = now
        raise refusals.too_short(entry, now, least)

    def check_backlog(self, queue: KeyQueue, entry: Entry, least: float, now: float) -> None:
        """Refuse an entry to which those before it will not leave the time.

        :raises Overloaded: PREDICTED_LATE.
        """
        late = self._first_start(queue, entry, now) + least - entry.deadline
        if late > 0:
            raise refusals.overloaded(queue, entry, "PREDICTED_LATE", late)

    def _first_start(self, queue: KeyQueue, entry: Entry, now: float) -> float:
        """Return when a device could begin with an entry, at best.

        Optimistic on purpose: what is ahead counts with its cost per row only, not with the fixed
        costs of its batches nor with padding. A refusal here should be certain to be right; who
        passes may still be given up later.
        """
        free_at, devices = self._fleet.free_at(queue.key.model, now)
        if not devices:
            return now
        position, tight = entry.position, queue.load.tight
        if tight and self._chooser.is_protected(entry):
            return free_at  # it does not stand behind the others
        ahead = 0.0
        waiting = self._backlog.waiting
        rivals = self._fleet.rivals(queue.key.model)
        for other in waiting if len(waiting) <= CANDIDATES else (queue,):
            lane = other.timed
            if lane.positions and other.key.model in rivals:
                # Mostly they come in the order of their deadlines, and all of it is ahead.
                last = lane.positions[-1]
                rows = lane.rows if position >= last else lane.rows_before(position)
                if tight and lane.classes[entry.priority] != len(lane.positions):
                    # Lower classes do not go before it.
                    rows *= lane.share_of_classes(entry.priority)
                ahead += rows * other.row_seconds
        if len(waiting) > CANDIDATES and free_at > now:
            # Too many to be asked one by one; half of them have earlier deadlines, more or less.
            # Not beside an idle device: what waits then is not for it.
            ahead = max(ahead, queue.load.work / 2)
        return free_at + ahead / devices

    def check_class(self, queue: KeyQueue, entry: Entry) -> None:
        """Refuse an entry that finds its class of priority full, where classes are bounded.

        One that is alone in it is taken whatever its rows: the bound is meant for requests that
        wait in numbers, and a request that is larger than it could otherwise never be served.

        :raises Overloaded: QUEUE_FULL.
        """
        limit = entry.key.class_queue_rows[entry.priority]
        rows = self._backlog.class_rows.get((entry.key.model, entry.priority), 0)
        if rows and 0 < limit < rows + entry.rows:
            raise refusals.class_full(queue, entry, rows)

    def make_room(self, queue: KeyQueue, entry: Entry) -> Sequence[Entry]:
        """Return whom to evict so that an entry has its place in its model's queue.

        Nobody, mostly. In a full queue, the last ones of the tenant that has most, for a tenant
        that has less than its share.

        :raises Overloaded: when the entry's own tenant is not entitled to that.
        """
        backlog, key, tenant = self._backlog, entry.key, entry.tenant
        rows = backlog.rows.get(key.model, 0)
        needed = rows + entry.rows - key.max_queue_rows
        if needed <= 0:
            return ()
        waiting = {t: n for (m, t), n in backlog.tenant_rows.items() if m == key.model}
        if untold := rows - sum(waiting.values()):
            waiting[""] = untold
        mine = waiting.pop(tenant, 0)
        greedy = max(waiting, key=waiting.__getitem__, default=None)
        victims: list[Entry] = []
        if greedy is not None:
            weight = self._tenants.weight
            left = (waiting[greedy] - needed) / weight(greedy)
            if left >= (mine + entry.rows) / weight(tenant):
                for candidate in backlog.from_behind(key.model, greedy):
                    victims.append(candidate)
                    needed -= candidate.rows
                    if needed <= 0:
                        return victims
        raise refusals.queue_full(queue, entry, rows)
