"""Which batch leaves next, for which device, and when; and who is refused: decisions only."""

from __future__ import annotations

import operator
from itertools import islice
from typing import TYPE_CHECKING, Final

from jitney.scheduling import refusals
from jitney.scheduling.backlog import CANDIDATES, Backlog
from jitney.scheduling.batch import NO_DEADLINE, PRIORITIES, Batch, State
from jitney.scheduling.chooser import Chooser
from jitney.scheduling.contract import PolicySettings, PolicyStatistics, Turn
from jitney.scheduling.demand import demands
from jitney.scheduling.fairness import Flows, Tenants
from jitney.scheduling.fleet import Fleet
from jitney.scheduling.host import HostCost
from jitney.scheduling.intake import Intake
from jitney.scheduling.prices import Prices
from jitney.scheduling.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.errors import JitneyError
    from jitney.latency_profile import LatencyProfile
    from jitney.scheduling.batch import Entry
    from jitney.scheduling.choice import Choice
    from jitney.scheduling.demand import Demand
    from jitney.scheduling.device import DeviceState
    from jitney.scheduling.latency import LatencyModel
    from jitney.scheduling.model_latency import ModelLatency
    from jitney.scheduling.queue import KeyQueue
    from jitney.types import ModelRef

__all__ = ["Policy", "PolicySettings", "PolicyStatistics", "Turn"]

LONGEST_REST: Final = 0.002
"""Seconds between the starts of two batches that the rule of rest may ask for, at most."""
ALLOWED: Final = 1.25
"""How much longer than usual, at its time, the batch of an entry may take that must only start by
some moment."""
HURRIED: Final = 0.9
"""Part of the usual slack below which an entry is in a hurry."""
UNKNOWN_ROW: Final = 1e-3
"""Seconds that a row is thought to take where nothing is known, for turns."""
SOON: Final = 1e-6
"""Added to the last moment of an entry: at that very moment it can still be started, and a turn
then would find nothing to do, again and again."""

_free_at = operator.attrgetter("free_at")
_utilisation = operator.attrgetter("utilisation")


class Policy:
    """Groups what is waiting into batches as late as possible, and refuses what cannot be in time.

    *What it promises.* A batch is formed when a device can take it and never before, so load alone
    makes batches grow; nothing needs tuning. An entry with a deadline is started only if its batch
    is expected to end before it, and told at once when that cannot be any more. When more is asked
    for than the devices can do, the most urgent entries are given up in favour of the larger
    batches behind them, by the price of device time (``plan``, ``load``), which each group of
    devices that share models has for itself (``group``). Entries without deadline fill what room is
    left, and are kept a twentieth of the devices for (``choice``).

    *Rest.* A batch costs the host a fixed time whatever its rows: two messages, two wake-ups, the
    bookkeeping. When models are small and callers are many, batches that leave at the first chance
    have one or two rows, that cost is all that the host's cores do, and everybody waits longer. So
    batches that are not full start, on each device, so far apart that their fixed cost takes at
    most the share ``max_overhead`` of the host's time. A model that runs longer than that never
    meets the rule, nor does a caller who is alone, nor anybody who would be late by it.

    The object is pure. It has no clock, lock, thread, await or random number; every method takes
    ``now`` in monotonic seconds, which must not go back. The caller serialises the calls and does
    what they return.

    Invariants, checked by the tests on random schedules:

    - an entry is in one queue, or in one batch, or done; rows are conserved;
    - a batch has entries of one key, at most ``max_rows`` rows, and at least one entry;
    - a device has at most one running and one staged batch, and what is staged is full;
    - no cancelled or expired entry is put into a batch, and none whose batch is expected to end
      after its deadline;
    - while a device that may run them is idle and rested, nothing waits that need not be deferred;
    - in a queue of one class and one tenant nobody is overtaken by a later deadline.
    """

    def __init__(self, settings: PolicySettings | None = None) -> None:
        self._settings = settings = settings or PolicySettings()
        self._fleet = Fleet(settings.least_spread)
        self._backlog = Backlog()
        self._retries = Retries()
        self._flows = Flows(settings.tenant_weights)
        self._tenants = Tenants(settings.tenant_weights)
        self._host = HostCost()
        self._chooser = Chooser(self._tenants, self._host, settings.least_spread)
        self._intake = Intake(self._backlog, self._fleet, self._tenants, self._host, self._chooser)
        self._prices = Prices(self._backlog, self._fleet, self._tenants)
        self._due = NO_DEADLINE

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        s = self.statistics()
        return (
            f"<Policy {s.queued_entries} queued ({s.queued_rows} rows) in {s.queues} queues, "
            f"{s.running} running, {s.staged} staged, load {s.utilisation:.2f}>"
        )

    # -- what may run where ---------------------------------------------------------------------

    def device_up(self, name: str) -> None:
        """Add a device; it runs nothing until models are ready on it."""
        self._fleet.add(name)
        self._prices.renew_soon()

    def device_down(self, name: str) -> None:
        """Remove a device; its batches are the executor's to fail."""
        self._fleet.remove(name)
        self._prices.renew_soon()

    def device_loading(self, name: str, *, loading: bool) -> None:
        """Give a device nothing while it loads a model: a batch would wait for that to end."""
        self._fleet.set_loading(name, loading=loading)

    def model_ready(
        self, device: str, model: ModelRef, profile: LatencyProfile | None = None
    ) -> None:
        """Let a device run a model.

        :param profile: how long it takes, as far as that was measured.
        """
        self._fleet.add_model(device, model, profile)
        self._prices.renew_soon()

    def model_gone(self, device: str, model: ModelRef) -> None:
        """Give no more batches of a model to a device."""
        self._fleet.remove_model(device, model)
        self._prices.renew_soon()

    def drain(self) -> None:
        """From now on let everything leave as soon as a device is free, waiting for no company."""
        self._chooser.draining = True

    # -- entries --------------------------------------------------------------------------------

    def offer(self, entry: Entry, now: float) -> Sequence[tuple[Entry, JitneyError]]:
        """Queue an entry; return those that had to make room for it, mostly none.

        :raises DeadlineTooShort: when even an idle device would not be done in time.
        :raises Overloaded: PREDICTED_LATE when those with earlier deadlines will not leave it the
            time; QUEUE_FULL when its model has ``max_queue_rows`` rows waiting already.
        """
        queue = self._backlog.queue(entry.key, now, self._fleet)
        timed, least, margin = entry.is_timed, 0.0, 0.0
        if timed:
            margin = self._margin(queue)
            least = queue.latency.planned(entry.span) + margin
            self._place(queue, entry, margin)
            self._intake.check_possible(queue, entry, least, now)
            self._note_demand(queue, entry, now)
        if now >= self._prices.renew_at:
            self._prices.renew(now)
        if timed:
            self._intake.check_backlog(queue, entry, least, now)
        if entry.key.class_queue_rows:
            self._intake.check_class(queue, entry)
        victims = self._intake.make_room(queue, entry)
        for victim in victims:
            self._remove(victim)
        if timed:
            margin = self._margin(queue)  # anew: it depends on the slack that the entries bring
        else:
            entry.position = self._turn_of(queue, entry)
        self._backlog.push(queue, entry, margin)
        return [(victim, refusals.overloaded(queue, victim, "TENANT_QUOTA")) for victim in victims]

    def _margin(self, queue: KeyQueue) -> float:
        """Return the seconds to allow for a lone request, beside the device's."""
        return self._host.margin(1, queue.slo or NO_DEADLINE)

    def _place(self, queue: KeyQueue, entry: Entry, margin: float) -> None:
        """Give a timed entry its position: the latest end of its batch."""
        entry.position = entry.deadline
        if entry.start_by != NO_DEADLINE:
            usual = queue.latency.planned(max(entry.span, queue.best_rows)) + margin
            entry.position = min(entry.deadline, entry.start_by + ALLOWED * usual)

    def _turn_of(self, queue: KeyQueue, entry: Entry) -> float:
        """Return the position of an entry without deadline."""
        return self._flows.tag(entry, entry.rows * (queue.latency.row_seconds or UNKNOWN_ROW))

    def _note_demand(self, queue: KeyQueue, entry: Entry, now: float) -> None:
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

    def _remove(self, entry: Entry) -> None:
        """Take a waiting entry out for good; its flow is not charged for what is not done."""
        self._backlog.remove(entry)
        if not entry.is_timed:
            self._flows.withdraw(entry)

    def cancel(self, entry: Entry) -> bool:
        """Take an entry back; return whether it was still waiting.

        One that is running stays in its batch, where its rows are computed and nobody is told.
        """
        was_queued = entry.state is State.QUEUED
        if was_queued:
            self._remove(entry)
        entry.state = State.DONE
        return was_queued

    def abandon(self, model: ModelRef) -> list[Entry]:
        """Remove and return all waiting entries of a model that no device will run any more."""
        abandoned = self._backlog.of_model(model)
        for entry in abandoned:
            self._remove(entry)
        abandoned += self._retries.abandon(model)
        return abandoned

    # -- turns ----------------------------------------------------------------------------------

    def is_settled(self, now: float) -> bool:
        """Whether a turn now would do nothing, and would not have to come sooner than ``next_due``.

        To be asked after an offer and after the end of a batch. Most requests come while every
        device runs something or rests, and nobody has a full batch to go on with: they can only
        wait then, and a turn for each of them cost more than to queue it.
        """
        backlog, wakes_at = self._backlog, self._chooser.wakes_at
        if backlog.full or self._retries:
            return False
        if not backlog.waiting:
            return True
        soonest = backlog.expiries.next()
        if soonest is not None and (soonest < now or soonest + SOON < self._due):
            return False
        for device in self._fleet:
            if not device.is_idle:
                continue
            if not now <= wakes_at <= device.rests_until or not self._rests(device, now):
                return False
        return True

    def turn(self, now: float) -> Turn:
        """Decide what happens now, and take it as done.

        In this order: what can no longer be in time is refused; idle devices are given parts of
        failed batches that wait to be run again, then what the chooser thinks best; devices that
        run something are given a full batch to go on with.
        """
        turn = Turn([], [])
        if now >= self._prices.renew_at:
            self._prices.renew(now)
        self._expire(now, turn)
        started = True
        while started and (self._backlog.waiting or self._retries):
            # What one device took may have been what another one, asked before it, waited for.
            self._chooser.wakes_at = NO_DEADLINE
            started = False
            for device in self._fleet:
                if device.is_idle and self._start(device, now, turn):
                    started = True
        if not self._retries and self._backlog.full:
            for device in sorted(self._fleet, key=_free_at):
                if device.running is not None and device.staged is None:
                    self._stage(device, now, turn)
        if not self._backlog.waiting:
            self._chooser.wakes_at = NO_DEADLINE
        return turn

    def _expire(self, now: float, turn: Turn) -> None:
        expiries = self._backlog.expiries
        for entry in expiries.pop_until(now):
            if entry.state is not State.QUEUED or not entry.is_timed:
                continue  # it was put back and so is in the heap twice
            queue = self._backlog.queue(entry.key, now, self._fleet)
            last = queue.last_moment(entry, self._margin(queue))
            if last >= now:
                # It is estimated to take less time than when this moment was set.
                expiries.postpone(last, entry)
                continue
            late_class = queue.key.delays_late
            if late_class and late_class[entry.priority] and entry.start_by < now:
                self._put_last(queue, entry)
                if not entry.is_timed or queue.last_moment(entry, self._margin(queue)) >= now:
                    continue
            self._remove(entry)
            turn.refused.append((entry, refusals.expired(entry, now)))
        if self._retries:
            self._refuse_late(self._retries.expire(now), turn)

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
            entry.position = max(last, self._turn_of(queue, entry))
        self._backlog.push(queue, entry, self._margin(queue))

    def _refuse_late(self, entries: Sequence[Entry], turn: Turn) -> None:
        turn.refused.extend((entry, refusals.late()) for entry in entries)

    def _start(self, device: DeviceState, now: float, turn: Turn) -> bool:
        """Start what an idle device should run; return whether there was anything."""
        batch = None
        if self._retries:
            batch, late = self._retries.take(device, self._fleet.latency, now)
            self._refuse_late(late, turn)
        if batch is None and self._rests(device, now):
            self._chooser.wakes_at = min(self._chooser.wakes_at, device.rests_until)
            return False
        if batch is None and self._backlog.waiting:
            candidates = self._backlog.candidates(device)
            others = self._fleet.others(device, now)
            elsewhere = self._fleet.idle_models(device)
            choice = self._chooser.choose(device, candidates, now, others, elsewhere)
            if choice is None and candidates is not self._backlog.waiting:
                # None of the most urgent can be helped, and the device is idle: ask others too.
                more = islice(self._backlog.waiting, 2 * CANDIDATES)
                choice = self._chooser.choose(device, more, now, others, elsewhere)
            if choice is not None:
                batch = self._close(choice, device, now, turn)
        if batch is None:
            return False
        device.start(batch, now)
        turn.batches.append(batch)
        return True

    def _rests(self, device: DeviceState, now: float) -> bool:
        """Whether a device rests, and nobody need be asked about it.

        The chooser knows the rule of rest better; this spares it the look at all queues with every
        newcomer, which small models with many callers would pay for.
        """
        if now >= device.rests_until or self._chooser.draining or self._backlog.full:
            return False
        soonest = self._backlog.expiries.next()
        return soonest is None or soonest > device.rests_until + LONGEST_REST

    def _stage(self, device: DeviceState, now: float, turn: Turn) -> None:
        """Give a busy device a full batch to go on with, if there is one."""
        choice = self._chooser.choose_staged(device, self._backlog.candidates(device), now)
        if choice is not None:
            batch = self._close(choice, device, now, turn)
            batch.staged = True
            device.stage(batch)
            turn.batches.append(batch)

    def _close(self, choice: Choice, device: DeviceState, now: float, turn: Turn) -> Batch:
        queue = choice.queue
        for victim in choice.victims:
            victim.state = State.DONE
            turn.refused.append((victim, refusals.overloaded(queue, victim, "SHED")))
        if choice.at is not None:
            end = choice.at + len(choice.victims) + len(choice.timed)
            queue.timed.remove_range(choice.at, end)
        else:
            for entry in (*choice.victims, *choice.timed):
                queue.timed.remove(entry)
        if choice.riders:
            if queue.key.fill:
                for entry in choice.riders:
                    queue.background.remove(entry)
            else:
                queue.background.remove_range(0, len(choice.riders))
            self._flows.left(choice.riders)
        entries = [*choice.timed, *choice.riders]
        nbytes = 0
        for entry in entries:
            entry.state = State.RUNNING
            nbytes += entry.nbytes
        if len(self._tenants) > 1 and queue.worth:
            for entry in choice.timed:
                self._tenants.charge(entry.tenant, entry.rows / queue.worth)
        self._backlog.left(queue, choice.victims)
        self._backlog.left(queue, entries)
        return Batch(
            queue.key,
            entries,
            choice.rows,
            choice.reason,
            device.name,
            now,
            nbytes,
            planned=choice.planned,
        )

    def completed(
        self, batch: Batch, now: float, seconds: float | None = None, overhead: float = 0.0
    ) -> None:
        """Note that a device is done with a batch, however it ended; what it has staged runs.

        :param seconds: that the device spent on it, None where it failed.
        :param overhead: seconds from the forming of the batch to now, less those of the device; 0
            where nobody knows.
        """
        self._fleet.unbegun.discard(batch)
        device = self._fleet.get(batch.device)
        if device is None:
            return
        device.end(batch, now)
        if seconds is not None:
            latency = self._fleet.latency(device, batch.key)
            latency.observe(batch.rows, seconds)
            self._note_outcome(batch, latency, now)
        if overhead > 0:
            self._host.note_batch(overhead, now)
            if self._settings.max_overhead < 1 and (
                len(batch.entries) > 1 or self._backlog.waiting
            ):
                sharers = len(self._fleet.group(batch.key.model).devices) or 1
                spacing = self._host.batch * sharers / self._settings.max_overhead
                device.rests_until = batch.formed_at + min(spacing, LONGEST_REST)

    def _note_outcome(self, batch: Batch, latency: LatencyModel, now: float) -> None:
        promised = late = 0
        for entry in batch.entries:
            is_late = entry.deadline < now
            # Of those that are late, the caller's gRPC may have given up by itself.
            if entry.deadline != NO_DEADLINE and (is_late or entry.state is State.RUNNING):
                promised += 1
                late += is_late
        if promised:
            latency.outcome(promised - late, late)
        queue = self._backlog.find(batch.key)
        if queue is not None:
            queue.evidence_at = now

    def replied(self, batch: Batch, seconds: float) -> None:
        """Note how long after its end the replies of a batch had left."""
        self._host.note_replies(seconds, len(batch.entries))

    def retry(self, batch: Batch) -> None:
        """Run part of a failed batch again, before anything that waits."""
        self._retries.push(batch)

    def requeue(self, batch: Batch, now: float) -> bool:
        """Put the entries of a batch back that a lost device was to run next; return if it was.

        They were never begun, keep their places, and lose no time.
        """
        if batch not in self._fleet.unbegun:
            return False
        self._fleet.unbegun.remove(batch)
        queue = self._backlog.queue(batch.key, now, self._fleet)
        for entry in batch.entries:
            if entry.state is State.RUNNING:
                entry.state = State.QUEUED
                if not entry.is_timed:
                    self._flows.back(entry)
                self._backlog.push(queue, entry, self._margin(queue))
        return True

    def next_due(self, now: float) -> float | None:
        """Return when ``turn`` will have something to do without a new event.

        To be asked after a turn. None means never: only an offer or a completion can change
        anything.
        """
        expires = self._backlog.expiries.next()
        due = NO_DEADLINE if expires is None else max(now, expires) + SOON
        due = min(due, self._chooser.wakes_at)
        if self._retries:
            due = min(due, self._retries.next() + SOON)
        self._due = due
        return None if due == NO_DEADLINE else due

    # -- figures --------------------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Bring the figures up to date where nothing happens: rates fall by doing nothing."""
        self._prices.renew(now)

    def statistics(self) -> PolicyStatistics:
        """Return the current figures; on any thread."""
        waiting, devices = list(self._backlog.waiting), list(self._fleet)
        busiest = max((group.load for group in self._fleet.groups), key=_utilisation)
        return PolicyStatistics(
            queued_entries=sum(map(len, waiting)),
            queued_rows=sum(self._backlog.rows.values()),
            queues=len(waiting),
            running=sum(device.running is not None for device in devices),
            staged=sum(device.staged is not None for device in devices),
            utilisation=busiest.utilisation,
            pressure=busiest.pressure,
            tight=any(group.load.tight for group in self._fleet.groups),
        )

    def waiting_models(self) -> set[ModelRef]:
        """Return the models that have entries waiting, parts of failed batches included."""
        return set(self._backlog.rows) | self._retries.models()

    def queued_rows(self) -> dict[ModelRef, int]:
        """Return how many rows of each model are waiting; a copy, safe to read anywhere."""
        return dict(self._backlog.rows)

    def queued_entries(self) -> dict[ModelRef, int]:
        """Return how many entries of each model are waiting; on any thread."""
        count: dict[ModelRef, int] = {}
        for queue in list(self._backlog.queues):
            model = queue.key.model
            count[model] = count.get(model, 0) + len(queue)
        return count

    def latencies(self) -> list[ModelLatency]:
        """Return what is known of how long batches take, by device and model; on any thread."""
        return self._fleet.latencies()

    def demands(self, now: float) -> dict[ModelRef, Demand]:
        """Return what is asked for, by model; models that nobody asks for are not there."""
        return demands(self._backlog.queues, now)
