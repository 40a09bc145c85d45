"""Which queue a free device serves next, with which of its entries."""

from __future__ import annotations

import operator
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from jitney.scheduling.batch import NO_DEADLINE, Mode, Reason, rows_of
from jitney.scheduling.choice import BACKGROUND, Choice, Choices, first_due
from jitney.scheduling.fixed_rows import fill_up, plan_rows
from jitney.scheduling.load import LEAST_PRESSURE
from jitney.scheduling.plan import Terms, fit, plan, trim
from jitney.scheduling.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from jitney.scheduling.batch import Entry
    from jitney.scheduling.device import DeviceState
    from jitney.scheduling.fairness import Tenants
    from jitney.scheduling.host import HostCost
    from jitney.scheduling.latency import LatencyModel
    from jitney.scheduling.queue import KeyQueue
    from jitney.types import ModelRef

__all__ = ["Chooser"]

REACH: Final = 4
"""How many best batches of entries may be given up for one batch; half of it loses in overload."""
RESERVE: Final = 0.05
"""The part of the devices' time that is kept for those who would otherwise never have a turn."""
MOST_OWED: Final = 1.0
"""Seconds of the reserve that are kept at most, unless one batch takes longer."""
IN_BETWEEN: Final = 0.25
"""Part of the shortest slack that a batch without deadlines may take."""
YIELDS: Final = 0.4
"""Part of its time for which somebody protected lets others go first where that is worthwhile."""
WAKE_SHARE: Final = 0.01
"""Share of an entry's whole time that a deferred batch leaves before its last moment."""

_position = operator.attrgetter("position")


class Chooser:
    """Compares what each queue would send.

    *Order.* When more is asked for than there is (``Load.tight``), tenants within their share go
    before those beyond it, then classes of priority by rank; one batch in twenty is formed without
    regard to classes. Within a rank the batch that must start first goes first, or a denser one if
    nobody would be late by it (``Choices.best``). Entries without deadline go last, by their tags,
    but have a twentieth of the devices' time once they waited for a second.

    ``wakes_at`` is when something that was deferred at the last turn should be looked at again.
    """

    def __init__(self, tenants: Tenants, host: HostCost, least_spread: float) -> None:
        self._tenants = tenants
        self._host = host
        self._least_spread = least_spread
        self._ranks = Ranks(tenants)
        self._owed = 0.0
        self.draining = False
        self.wakes_at = NO_DEADLINE

    def is_protected(self, entry: Entry) -> bool:
        """Whether an entry is of a tenant within its share, while others are beyond theirs."""
        return entry.key.model in self._tenants.contested and not self._tenants.is_over(entry)

    def choose(
        self,
        device: DeviceState,
        queues: Iterable[KeyQueue],
        now: float,
        others: Sequence[float],
        elsewhere: Container[ModelRef] = (),
    ) -> Choice | None:
        """Return what an idle device should run now, None if nothing should.

        :param others: when the other devices will be free, ascending; now for those that are.
        :param elsewhere: the models that another idle device could run: nobody is given up who
            could be taken by it.
        """
        found = self._survey(device, queues, now, now, others, elsewhere)
        best = found.claim(now, self._owed) or found.best(others)
        if best is None:
            return None
        rests = now < device.rests_until and not self.draining
        if rests and not found.some_full and _can_wait(best, device.rests_until):
            self.wakes_at = min(self.wakes_at, device.rests_until)
            return None
        self._account(best, found.background)
        return best

    def choose_staged(
        self, device: DeviceState, queues: Iterable[KeyQueue], now: float
    ) -> Choice | None:
        """Return what a busy device should go on with, if that is a full batch already.

        A batch that still has room would age behind the running one while newcomers could have
        joined it. It must be the best of all: staging another because it is full would let a busy
        model keep the device for ever from one that never fills a batch.
        """
        start = max(now, device.free_at)
        found = self._survey(device, queues, start, now, (), None, staged=True)
        best = found.claim(now, self._owed) or min(found.ready, key=first_due, default=None)
        if best is None or not best.is_full or best.victims:
            return None
        if best.rank == BACKGROUND and best.queue.load.shortest < NO_DEADLINE:
            return None  # somebody with a deadline may come, and would wait for two batches
        if any(entry.start_by < start for entry in (*best.timed, *best.riders)):
            return None  # its batch would begin too late for that
        self._account(best, found.background)
        return best

    def _survey(
        self,
        device: DeviceState,
        queues: Iterable[KeyQueue],
        start: float,
        now: float,
        others: Sequence[float],
        elsewhere: Container[ModelRef] | None,
        *,
        staged: bool = False,
    ) -> Choices:
        """Return what each queue would send, if it should send anything now."""
        found = Choices()
        for queue in queues:
            if queue.key.model not in device.models:
                continue
            latency = device.latency(queue.key, self._least_spread)
            background = None
            if queue.background.entries:
                background = self._of_background(queue, latency)
                found.add_background(background)
            choice = None
            if queue.timed.entries:
                reach = elsewhere is not None and queue.key.model not in elsewhere
                choice = self._of_timed(queue, latency, start, others, reach=reach)
            for candidate in (choice, background):
                if candidate is None:
                    continue
                if candidate.is_full:
                    found.some_full = True
                elif not (staged or self.draining or self._is_ready(candidate, latency, now)):
                    continue
                found.ready.append(candidate)
                break
        return found

    def _account(self, chosen: Choice, background: Choice | None) -> None:
        """Put a twentieth of what deadlines get into the reserve, and take claims out of it."""
        if chosen.queue.load.tight:
            self._ranks.count_batch()
        if background is None:
            return
        if chosen.timed:
            most = max(MOST_OWED, background.planned)
            self._owed = min(most, self._owed + RESERVE * chosen.planned)
        else:
            self._owed = max(0.0, self._owed - chosen.planned)

    # -- one queue ------------------------------------------------------------------------------

    def _is_ready(self, choice: Choice, latency: LatencyModel, now: float) -> bool:
        """Whether a batch that is not full should leave, although others could still join it."""
        queue = choice.queue
        key = queue.key
        if choice.reason is Reason.DEADLINE or choice.victims:
            return True
        ready_at = now
        if key.max_delay:
            ready_at = queue.oldest() + key.max_delay
        # Batches that protect a tenant are small on purpose.
        defers = queue.defers and key.model not in self._tenants.contested
        if choice.rows < queue.best_rows and (key.mode is Mode.EFFICIENCY or defers):
            if choice.timed and not key.max_delay:
                ready_at = NO_DEADLINE
            elif not choice.timed and key.mode is Mode.EFFICIENCY:
                # Nobody set a limit; as long as the full batch would run is in proportion.
                head = choice.riders[0]
                ready_at = max(ready_at, head.arrived + latency.planned(key.max_rows))
        if ready_at <= now:
            return True
        if choice.timed:
            head = choice.timed[0]
            another = latency.planned(choice.rows + 1)
            margin = self._margin(queue)
            # Whoever wakes us may be late as well.
            late = max(margin, WAKE_SHARE * (head.position - head.arrived))
            # Nor will the device stay idle for it, if it has others to serve.
            late += queue.load.longest
            # Those left out start after this batch, so it may not wait longer than they can.
            start_by = min(entry.start_by for entry in (*choice.timed, *choice.left_out))
            ready_at = min(ready_at, head.position - margin - another - late, start_by - late)
            if ready_at <= now:
                return True
        self.wakes_at = min(self.wakes_at, ready_at)
        return False

    def _margin(self, queue: KeyQueue) -> float:
        replies = min(len(queue.timed.entries), queue.best_rows)
        return self._host.margin(replies, queue.slo or NO_DEADLINE)

    def _of_background(self, queue: KeyQueue, latency: LatencyModel) -> Choice:
        """Return what a queue would send if it had nothing with a deadline."""
        key = queue.key
        dense = most = key.max_rows
        if not key.fill:
            dense = most = min(most, latency.densest)
        if (shortest := queue.load.shortest) != NO_DEADLINE:
            # Whoever comes with a deadline waits for it to end, so then it is a short one.
            within = latency.rows_within(IN_BETWEEN * shortest)
            most = max(1, min(most, within)) if within else most
        if key.fill:
            return self._of_fixed_background(queue, latency, most)
        riders, rows, full = fit(queue.background.entries, most, key.max_bytes)
        head = riders[0]
        # One that is cut short for others is not full, and not to be treated so.
        reason = Reason.FULL if full and most == dense else self._reason(queue)
        planned = latency.planned(rows)
        return Choice(
            queue, (), (), riders, rows, planned, reason, BACKGROUND, head.position, 0.0, None, 0.0
        )

    def _of_timed(
        self,
        queue: KeyQueue,
        latency: LatencyModel,
        now: float,
        others: Sequence[float],
        *,
        reach: bool,
    ) -> Choice | None:
        """Return what a queue would send; None where nothing would be in time."""
        key, load, lane = queue.key, queue.load, queue.timed
        margin = self._margin(queue)
        if key.fill:
            return self._of_fixed(queue, latency, now + margin, margin)
        pressure = load.pressure
        terms = Terms(
            now + margin,
            pressure * queue.worth,
            1 - pressure,
            key.max_rows,
            key.max_bytes,
            REACH * queue.best_rows if reach else 0,
        )
        rank = 0
        at = None
        left_out: Sequence[Entry] = ()
        contested = key.model in self._tenants.contested
        if load.tight and (contested or len(self._tenants) > 1 or lane.is_mixed):
            ranked = self._ranks.plan(queue, latency, terms, others)
            if ranked is None:
                return None
            rank, latest, victims, timed, made = ranked
            left_out = lane.entries  # lower ranks; who is in it counts twice, for nothing
            latest -= margin
        else:
            # By position: those that even one row's time is too long for.
            skip = bisect_left(lane.positions, terms.start + latency.planned(1))
            made = plan(lane.entries, latency, terms, skip)
            if not made.rows:
                return None
            end = made.end
            made = trim(made, lane.entries, latency, terms.price)
            left_out = lane.entries[made.end : end]
            at = made.skip
            victims = lane.entries[at : made.first]
            timed = lane.entries[made.first : made.end]
            if load.tight:
                rank = self._ranks.rank(timed[0])
            latest = timed[0].position - margin - latency.planned(made.rows)
        rows = made.rows
        riders: Sequence[Entry] = ()
        if queue.background.entries and rows < key.max_rows:
            riders = self._riders(queue, latency, terms, timed, rows)
            rows += sum(entry.rows for entry in riders)
        planned = latency.planned(rows)
        if made.full or rows >= key.max_rows:
            reason = Reason.FULL
        elif made.cut:
            reason = Reason.DEADLINE
        else:
            reason = self._reason(queue)
        density = rows / planned if planned else NO_DEADLINE
        head = timed[0]
        yields = head.arrived + YIELDS * (head.position - head.arrived)
        return Choice(
            queue,
            victims,
            timed,
            riders,
            rows,
            planned,
            reason,
            rank,
            latest,
            density,
            at,
            yields,
            left_out,
        )

    def _of_fixed(
        self, queue: KeyQueue, latency: LatencyModel, start: float, margin: float
    ) -> Choice | None:
        """Return what a queue of fixed rows would send; None where nothing would be in time."""
        key, load, entries = queue.key, queue.load, queue.timed.entries
        rank = self._ranks.rank
        if load.tight:
            entries = sorted(entries, key=rank)
        made = plan_rows(entries, key, latency, start)
        if not made.entries:
            return None
        timed = sorted(made.entries, key=_position)
        most = latency.padded(made.rows) if load.pressure > LEAST_PRESSURE else key.max_rows
        riders = fill_up(made, queue.background.entries, key, latency, start, most)
        rows = rows_of(key, (*timed, *riders))
        planned = latency.planned(rows)
        count = len(timed) + len(riders)
        reason = Reason.DEADLINE if made.cut else self._reason(queue)
        head = timed[0]
        return Choice(
            queue,
            (),
            timed,
            riders,
            rows,
            planned,
            Reason.FULL if made.full or count >= key.max_rows else reason,
            min(map(rank, timed)) if load.tight else 0,
            head.position - margin - planned,
            count / planned if planned else NO_DEADLINE,
            None,
            head.arrived + YIELDS * (head.position - head.arrived),
            queue.timed.entries,  # rows that are taken; who is in it counts twice, for nothing
        )

    def _of_fixed_background(self, queue: KeyQueue, latency: LatencyModel, most: int) -> Choice:
        """Return what a queue of fixed rows would send if it had nothing with a deadline."""
        key, entries = queue.key, queue.background.entries
        low = [entry for entry in entries if entry.span <= most]
        made = plan_rows(low or entries[:1], key, latency, 0.0)
        planned = latency.planned(made.rows)
        reason = Reason.FULL if made.full else self._reason(queue)
        head = made.entries[0].position
        return Choice(
            queue,
            (),
            (),
            made.entries,
            made.rows,
            planned,
            reason,
            BACKGROUND,
            head,
            0.0,
            None,
            0.0,
        )

    def _reason(self, queue: KeyQueue) -> Reason:
        if self.draining:
            return Reason.DRAIN
        deferred = queue.key.max_delay or queue.defers or queue.key.mode is Mode.EFFICIENCY
        return Reason.DELAY if deferred else Reason.IDLE

    def _riders(
        self,
        queue: KeyQueue,
        latency: LatencyModel,
        terms: Terms,
        timed: Sequence[Entry],
        rows: int,
    ) -> Sequence[Entry]:
        """Return entries without deadline for the room that is left.

        While there is little else to do they may make the batch longer, but never late. Under load
        they only get what is padding anyhow: each row more would delay somebody with a deadline.
        """
        if queue.load.pressure > LEAST_PRESSURE:
            room = latency.padded(rows)
        else:
            room = latency.rows_within(timed[0].position - terms.start)
        nbytes = sum(entry.nbytes for entry in timed)
        room = min(room, terms.max_rows) - rows
        if room <= 0:
            return ()
        return fit(queue.background.entries, room, terms.max_bytes - nbytes, strict=True)[0]


def _can_wait(choice: Choice, until: float) -> bool:
    """Whether a batch would still be in time for everybody in it if it started at ``until``."""
    entries = (*choice.timed, *choice.riders)
    # Background has no latest start, but a turn.
    in_time = choice.rank == BACKGROUND or choice.latest > until
    return in_time and all(entry.start_by > until for entry in entries)
