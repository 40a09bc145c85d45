"""A second, slow and obvious account of what a Policy holds, to check it after every event."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from contract import (
    check_batch,
    check_due,
    check_idle_devices,
    check_nobody_hopeless_waits,
    check_predicted,
    check_put_last,
    check_refused,
    check_retry,
    check_victims_were_worth_it,
    note_last_moment,
)
from sums import check_nothing_left, check_sums
from watched_policy import WatchedPolicy

from jitney.errors import DeadlineTooShort, Overloaded
from jitney.scheduling.batch import NORMAL, Batch, BatchKey, Entry, Reason, State, rows_of
from jitney.scheduling.policy import LONGEST_REST, PolicySettings
from jitney.testing import Ends, make_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jitney.errors import JitneyError
    from jitney.latency_profile import LatencyProfile
    from jitney.scheduling.latency import LatencyModel
    from jitney.types import ModelRef

__all__ = ["Device", "Ticket", "World"]

nobody = Ends()
request = make_request(data=())
"""What is asked for is nothing to the policy, so all entries share it."""


class Ticket(Entry):
    """An entry with a number, for logs."""

    __slots__ = ("number",)

    number: int

    def __repr__(self) -> str:
        """Return the number."""
        return f"#{self.number}"


@dataclass
class Device:
    """What a device should have."""

    models: set[ModelRef] = field(default_factory=set)
    running: Batch | None = None
    staged: Batch | None = None
    loading: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether it could start something."""
        return self.running is None and not self.loading


class World:
    """A policy under test, its model, and the checks.

    Each method is an event, and checks what the contract says of it; ``turn`` is what the
    scheduler does after events. ``log`` has every decision, in terms that depend neither on when
    the world began nor on how long its seconds are.

    ``start_by`` and ``classes`` are what entries brought, of which the policy may put them last.
    ``last`` has when each entry must have started, as it was estimated last.
    ``deferred`` are the entries that waited for company at the last turn although a device was
    idle, ``due`` is when the policy wanted its next one, and ``quiet`` tells that nothing but time
    has passed since.
    """

    def __init__(self, settings: PolicySettings, start: float, unit: float = 1.0) -> None:
        self.policy = WatchedPolicy(settings)
        self.now = start
        self.unit = unit
        self.count = self.turned_away = 0
        self.waiting: dict[Entry, None] = {}
        self.retries: list[Batch] = []
        self.devices: dict[str, Device] = {}
        self.ended: dict[Entry, str] = {}
        self.deferred: list[Entry] = []
        self.last: dict[Entry, float] = {}
        self.start_by: dict[Entry, float] = {}
        self.classes: dict[Entry, int] = {}
        self.due: float | None = None
        self.draining = self.quiet = False
        self.log: list[tuple[object, ...]] = []

    # -- entries --------------------------------------------------------------------------------

    def offer(
        self,
        key: BatchKey,
        rows: int,
        *,
        within: float = math.inf,
        start_within: float = math.inf,
        priority: int = NORMAL,
        tenant: str = "",
        nbytes: int = 0,
        row: int = -1,
    ) -> Ticket | None:
        """Offer an entry; return it if it was taken on."""
        self.quiet = False
        entry = Ticket(
            request,
            key,
            rows,
            nbytes or 4 * rows,
            self.now,
            nobody,
            deadline=self.now + within,
            start_by=self.now + start_within,
            priority=priority,
            tenant=tenant,
            row=row,
        )
        entry.number = self.count
        self.count += 1
        before = self.rows_of(key.model)
        of_class = self.rows_of_class(entry)
        least = self.reference(key, entry.span) + self.policy.margin(key)
        evicted: Sequence[tuple[Entry, JitneyError]] = ()
        error: JitneyError | None = None
        try:
            evicted = self.policy.offer(entry, self.now)
        except (DeadlineTooShort, Overloaded) as refusal:
            error = refusal
        assert (self.now + least > entry.deadline) == isinstance(error, DeadlineTooShort)
        if error is not None:
            self.check_turned_away(entry, error, before, of_class)
            return None
        for victim, why in evicted:
            assert before + rows > key.max_queue_rows, "evicted for nothing"
            assert (State.DONE, "TENANT_QUOTA") == (victim.state, why.reason)
            assert (True, key.model) == (victim in self.waiting, victim.key.model)
            assert tenant != victim.tenant
            before -= victim.rows
            self.end([victim], why.reason)
        self.waiting[entry] = None
        self.start_by[entry], self.classes[entry] = entry.start_by, priority
        note_last_moment(self, entry)
        if key.class_queue_rows and of_class:
            limit = key.class_queue_rows[priority]
            assert not limit or of_class + rows <= limit, "more of a class than it may have"
        assert before + rows == self.rows_of(key.model) <= key.max_queue_rows
        return entry

    def check_turned_away(
        self, entry: Ticket, error: JitneyError, before: int, of_class: int
    ) -> None:
        """Check that an entry was refused for the reason that is given; nothing else changed."""
        self.turned_away += 1
        self.log.append((entry.number, error.reason))
        assert before == self.rows_of(entry.key.model)
        if isinstance(error, Overloaded):
            assert error.retry_after > 0
            if error.reason == "QUEUE_FULL":
                limits = entry.key.class_queue_rows
                assert before + entry.rows > entry.key.max_queue_rows or (
                    limits and of_class and 0 < limits[entry.priority] < of_class + entry.rows
                )
            else:
                assert "PREDICTED_LATE" == error.reason
                check_predicted(self, entry)

    def cancel(self, entry: Entry) -> None:
        """Cancel an entry, wherever it is, twice."""
        self.quiet = False
        assert (entry in self.waiting) == self.policy.cancel(entry)
        assert State.DONE is entry.state
        assert not self.policy.cancel(entry)
        self.waiting.pop(entry, None)
        if entry not in self.ended:
            self.ended[entry] = "cancelled"

    def abandon(self, model: ModelRef) -> None:
        """Give up a model that will never be seen to run."""
        self.quiet = False
        expected = {entry for entry in self.waiting if entry.key.model == model}
        expected |= {entry for entry in self.live_retries() if entry.key.model == model}
        abandoned = self.policy.abandon(model)
        assert (len(expected), expected) == (len(abandoned), set(abandoned))
        assert all(entry.state is State.DONE for entry in abandoned)
        self.end(abandoned, "abandoned")
        self.retries = [batch for batch in self.retries if batch.key.model != model]

    def end(self, entries: Iterable[Entry], how: str) -> None:
        """Note the end of entries, which must be their first."""
        for entry in entries:
            assert entry not in self.ended
            self.waiting.pop(entry, None)
            self.ended[entry] = how
            entry.state = State.DONE
            self.log.append((repr(entry), how))

    # -- devices --------------------------------------------------------------------------------

    def device_up(self, name: str) -> None:
        """Bring a device up, without models."""
        self.quiet = False
        self.devices[name] = Device()
        self.policy.device_up(name)

    def device_down(self, name: str) -> None:
        """Lose a device: what it ran is lost, what it was to run next waits again."""
        self.quiet = False
        device = self.devices.pop(name)
        self.policy.device_down(name)
        if device.running is not None:
            assert not self.policy.requeue(device.running, self.now)
            self.policy.completed(device.running, self.now)
            self.end(live(device.running), "lost")
        if device.staged is not None:
            again = live(device.staged)
            assert self.policy.requeue(device.staged, self.now)
            assert not self.policy.requeue(device.staged, self.now)
            assert all(entry.state is State.QUEUED for entry in again)
            for entry in again:
                self.waiting[entry] = None
                note_last_moment(self, entry)

    def device_loading(self, name: str) -> None:
        """Let a device begin to load something, or end it: meanwhile it starts nothing."""
        self.quiet = False
        device = self.devices[name]
        device.loading = not device.loading
        self.policy.device_loading(name, loading=device.loading)

    def model_ready(self, name: str, model: ModelRef, profile: LatencyProfile | None) -> None:
        """Let a device run a model."""
        self.quiet = False
        self.devices[name].models.add(model)
        self.policy.model_ready(name, model, profile)

    def model_gone(self, name: str, model: ModelRef) -> None:
        """Forbid it."""
        self.quiet = False
        self.devices[name].models.discard(model)
        self.policy.model_gone(name, model)

    def complete(self, name: str, seconds: float, overhead: float, replies: float) -> None:
        """End what a device runs, well."""
        batch = self._completed(name, seconds, overhead)
        self.end(live(batch), "answered")
        if replies:
            self.policy.replied(batch, replies)

    def fail(self, name: str, *, split: bool = False) -> None:
        """End what a device runs with an error; if that is one member's doing, halves run again."""
        members = live(batch := self._completed(name, None, 0.0))
        if not split or len(members) < 2:
            self.end(members, "failed")
            return
        middle = len(members) // 2
        for part in (members[:middle], members[middle:]):
            rows = rows_of(batch.key, part)
            again = Batch(batch.key, part, rows, Reason.RETRY, "", batch.formed_at)
            self.retries.append(again)
            self.policy.retry(again)

    def refuse_staged(self, name: str) -> None:
        """End what is staged before what runs: it could not be sent."""
        self.quiet = False
        device = self.devices[name]
        batch, device.staged = device.staged, None
        assert batch is not None
        self.policy.completed(batch, self.now)
        self.end(live(batch), "failed")

    def _completed(self, name: str, seconds: float | None, overhead: float) -> Batch:
        self.quiet = False
        device = self.devices[name]
        batch, device.running, device.staged = device.running, device.staged, None
        assert batch is not None
        self.policy.completed(batch, self.now, seconds, overhead)
        assert self.policy.rests_until(name) <= batch.formed_at + LONGEST_REST * self.unit
        return batch

    def drain(self) -> None:
        """Begin to drain."""
        self.quiet = False
        self.draining = True
        self.policy.drain()

    # -- turns ----------------------------------------------------------------------------------

    def turn(self) -> None:
        """Take a turn and check it; more at the same moment soon have nothing to do."""
        on_time = self.quiet and self.due is not None and self.now <= self.due
        settled, due = self.policy.is_settled(self.now), self.due
        decided, victims = self._turn_once(on_time=on_time)
        assert not (settled and decided), "a turn that had something to do was not asked for"
        for _ in range(2 * len(self.devices) + 1):
            if not decided:
                break
            decided, more = self._turn_once(on_time=False)
            victims |= more
        assert not decided, "turns at one moment do not come to an end"
        check_nobody_hopeless_waits(self)
        self.deferred = check_idle_devices(self)
        check_victims_were_worth_it(self, victims)
        self.due = self.policy.next_due(self.now)
        if settled and self.due is not None:
            assert due is not None, "nobody would have waked the policy"
            assert due <= self.due, "nobody would have waked the policy in time"
        check_due(self)
        check_sums(self)
        self.quiet = True

    def _turn_once(self, *, on_time: bool) -> tuple[bool, set[Entry]]:
        """Take a turn; return whether anything was decided, and who was given up."""
        again = set(self.live_retries())
        turn = self.policy.turn(self.now)
        closings = self.policy.pop_closings()
        victims = {entry for closing in closings for entry in closing.choice.victims}
        for entry, start_by in self.start_by.items():
            if entry.start_by != start_by and entry in self.waiting:
                check_put_last(self, entry)
        for entry, error in turn.refused:
            check_refused(self, entry, error, victims=victims, again=again)
            lost = on_time and entry in self.deferred and entry not in victims
            assert not lost, "kept waiting for company beside an idle device until it was too late"
            self.end([entry], error.reason)
        assert not victims - self.ended.keys()
        coming = iter(closings)
        for batch in turn.batches:
            if batch.reason is Reason.RETRY:
                check_retry(self, batch)
                self.retries.remove(batch)
            else:
                check_batch(self, batch, next(coming))
            self.begin(batch)
        assert next(coming, None) is None
        return bool(turn.batches or turn.refused), victims

    def begin(self, batch: Batch) -> None:
        """Note where a batch is."""
        device = self.devices[batch.device]
        if batch.staged:
            device.staged = batch
        else:
            device.running = batch
        for entry in batch.entries:
            self.waiting.pop(entry, None)
        self.log.append(
            (batch.reason.value, batch.device, batch.rows, batch.staged, *batch.entries)
        )

    def finish(self) -> None:
        """Check that nothing is left after a drain."""
        check_nothing_left(self)

    # -- figures --------------------------------------------------------------------------------

    def live_retries(self) -> list[Entry]:
        """Return the members of failed batches that wait to be run again."""
        return [entry for batch in self.retries for entry in live(batch)]

    def rows_of(self, model: ModelRef) -> int:
        """Return the rows of a model that wait."""
        return sum(entry.rows for entry in self.waiting if entry.key.model == model)

    def rows_of_class(self, like: Entry) -> int:
        """Return the rows that wait of the model and class of an entry, where those are bounded."""
        return sum(
            entry.rows
            for entry in self.waiting
            if entry.key.class_queue_rows
            and (entry.key.model, entry.priority) == (like.key.model, like.priority)
        )

    def latency(self, device: str, key: BatchKey) -> LatencyModel:
        """Return what the policy knows of a device and a key."""
        return self.policy.latency(device, key)

    def reference(self, key: BatchKey, rows: int) -> float:
        """Return the planned seconds of rows on what the policy takes for the fastest device."""
        return self.policy.reference(key).planned(rows)


def live(batch: Batch) -> list[Entry]:
    """Return the members of a batch that somebody waits for."""
    return [entry for entry in batch.entries if entry.state is State.RUNNING]
