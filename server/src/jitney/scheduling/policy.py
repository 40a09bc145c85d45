"""Which batch leaves next, for which device, and when; and who is refused: decisions only."""

from __future__ import annotations

import operator
from itertools import islice
from typing import TYPE_CHECKING, Final

from jitney.scheduling import refusals
from jitney.scheduling.backlog import CANDIDATES, Backlog
from jitney.scheduling.batch import NO_DEADLINE, Batch, State
from jitney.scheduling.chooser import Chooser
from jitney.scheduling.contract import PolicySettings, PolicyStatistics, Turn
from jitney.scheduling.fairness import Flows, Tenants
from jitney.scheduling.figures import Figures
from jitney.scheduling.fleet import Fleet
from jitney.scheduling.host import HostCost
from jitney.scheduling.intake import Intake
from jitney.scheduling.prices import Prices
from jitney.scheduling.retries import Retries
from jitney.scheduling.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.errors import JitneyError
    from jitney.latency_profile import LatencyProfile
    from jitney.scheduling.batch import Entry
    from jitney.scheduling.choice import Choice
    from jitney.scheduling.device import DeviceState
    from jitney.scheduling.latency import LatencyModel
    from jitney.types import ModelRef

__all__ = ["Policy", "PolicySettings", "PolicyStatistics", "Turn"]

LONGEST_REST: Final = 0.002
"""Seconds between the starts of two batches that the rule of rest may ask for, at most."""
SOON: Final = 1e-6
"""Added to the last moment of an entry: at that very moment it can still be started, and a turn
then would find nothing to do, again and again."""

_free_at = operator.attrgetter("free_at")


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
        self._waiting = Waiting(self._backlog, self._fleet, self._flows, self._tenants, self._host)
        self.figures = Figures(self._backlog, self._fleet, self._retries)
        self._due = NO_DEADLINE

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        s = self.figures.statistics()
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
            margin = self._waiting.margin(queue)
            least = queue.latency.planned(entry.span) + margin
            self._waiting.place(queue, entry, margin)
            self._intake.check_possible(queue, entry, least, now)
            self._waiting.note_demand(queue, entry, now)
        if now >= self._prices.renew_at:
            self._prices.renew(now)
        if timed:
            self._intake.check_backlog(queue, entry, least, now)
        if entry.key.class_queue_rows:
            self._intake.check_class(queue, entry)
        victims = self._intake.make_room(queue, entry)
        for victim in victims:
            self._waiting.remove(victim)
        if timed:
            margin = self._waiting.margin(
                queue
            )  # anew: it depends on the slack that the entries bring
        else:
            entry.position = self._waiting.turn_of(queue, entry)
        self._backlog.push(queue, entry, margin)
        return [(victim, refusals.overloaded(queue, victim, "TENANT_QUOTA")) for victim in victims]

    def cancel(self, entry: Entry) -> bool:
        """Take an entry back; return whether it was still waiting.

        One that is running stays in its batch, where its rows are computed and nobody is told.
        """
        was_queued = entry.state is State.QUEUED
        if was_queued:
            self._waiting.remove(entry)
        entry.state = State.DONE
        return was_queued

    def abandon(self, model: ModelRef) -> list[Entry]:
        """Remove and return all waiting entries of a model that no device will run any more."""
        abandoned = self._backlog.of_model(model)
        for entry in abandoned:
            self._waiting.remove(entry)
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
        turn.refused.extend(self._waiting.expire(now))
        if self._retries:
            self._refuse_late(self._retries.expire(now), turn)
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

    def runs(self, model: ModelRef) -> bool:
        """Whether any device has a model just now."""
        return any(model in device.models for device in self._fleet)

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
                self._backlog.push(queue, entry, self._waiting.margin(queue))
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

    def refresh(self, now: float) -> None:
        """Bring the figures up to date where nothing happens: rates fall by doing nothing."""
        self._prices.renew(now)
