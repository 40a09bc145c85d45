"""A second, slow and obvious account of what a Policy holds, to check it after every event."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import starmap
from typing import TYPE_CHECKING

from jitney.errors import Overloaded
from jitney.scheduling.batch import Batch, BatchKey, Entry, Reason, State
from jitney.scheduling.policy import LONGEST_REST, Policy
from jitney.testing import make_entry, make_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TICK = 1 / 1024
"""Seconds; all times are multiples of it, so that shifting them is exact."""

Step = tuple[str, int, int, int]
KINDS = (
    *("offer",) * 8,
    *("advance",) * 4,
    *("complete",) * 4,
    *("cancel", "cancel", "device_down", "device_up", "model_gone", "model_ready"),
    *("abandon", "drain"),
)


@dataclass
class Device:
    """What a device should have."""

    models: set[str] = field(default_factory=set)
    running: Batch | None = None
    staged: Batch | None = None


class World:
    """A policy under test, its model, and the checks.

    ``step`` applies one event and then takes a turn, as the scheduler does: expire, take until
    None, ask when to wake. ``log`` has every decision, in terms that do not depend on the time at
    which the world began.
    """

    def __init__(self, start: float = 0.0, max_overhead: float = 1.0) -> None:
        self.policy = Policy(max_overhead)
        self.start = self.now = start
        self.keys = [
            make_key("a", max_rows=4, max_queue_rows=12),
            make_key("a", dims=(2,), max_rows=4, max_bytes=24, max_queue_rows=12),
            make_key("b", max_rows=8, max_delay=5 * TICK, max_queue_rows=40),
            make_key("c", max_rows=1),
        ]
        self.entries: list[Entry] = []
        self.queues: dict[BatchKey, list[Entry]] = {key: [] for key in self.keys}
        self.retries: list[Batch] = []
        self.devices: dict[str, Device] = {}
        self.ended: dict[Entry, str] = {}
        self.draining = False
        self.log: list[tuple[object, ...]] = []

    # -- events ---------------------------------------------------------------------------------

    def step(self, step: Step) -> None:
        """Apply an event, take a turn, check everything."""
        kind, a, b, c = step
        getattr(self, kind)(a, b, c)
        self.turn()

    def offer(self, a: int, b: int, c: int) -> None:
        """Offer an entry of 1 to max_rows rows, with or without a deadline."""
        key = self.keys[a % len(self.keys)]
        rows = 1 + b % min(3, key.max_rows)
        deadline = None if c % 3 == 0 else self.now + (c % 23) * TICK
        entry = make_entry(
            key, rows=rows, id=str(len(self.entries)), arrived=self.now, deadline=deadline
        )
        waiting = sum(e.rows for k, q in self.queues.items() if k.model == key.model for e in q)
        try:
            self.policy.offer(entry)
        except Overloaded:
            assert waiting + rows > key.max_queue_rows
            return
        assert waiting + rows <= key.max_queue_rows
        self.entries.append(entry)
        self.queues[key].append(entry)

    def advance(self, a: int, _b: int, _c: int) -> None:
        """Let up to 12 ticks pass."""
        self.now += a % 13 * TICK

    def cancel(self, a: int, _b: int, _c: int) -> None:
        """Cancel any entry there ever was: waiting, running, or done."""
        if not self.entries:
            return
        entry = self.entries[a % len(self.entries)]
        queue = self.queues[entry.key]
        assert (entry in queue) == self.policy.cancel(entry)
        assert State.DONE is entry.state
        if entry in queue:
            queue.remove(entry)
        if entry not in self.ended:
            self.ended[entry] = "cancelled"

    def complete(self, a: int, b: int, c: int) -> None:
        """End the running batch of a device: well, with a failure that splits, or with a loss.

        Up to a tick of it was overhead.
        """
        busy = [device for device in self.devices.values() if device.running is not None]
        if not busy:
            return
        device = busy[a % len(busy)]
        batch = device.running
        assert batch is not None
        device.running, device.staged = device.staged, None
        self.policy.completed(batch, c % 9 * TICK / 8)
        assert self.rest(batch.device) <= batch.formed_at + LONGEST_REST
        live = [entry for entry in batch.entries if entry.state is State.RUNNING]
        if b % 3 == 1 and len(live) > 1:
            middle = len(live) // 2
            for part in (live[:middle], live[middle:]):
                rows = sum(entry.rows for entry in part)
                again = Batch(batch.key, part, rows, Reason.RETRY, "", batch.formed_at)
                self.retries.append(again)
                self.policy.retry(again)
        else:
            self.end(live, "answered" if b % 3 == 0 else "failed")

    def device_up(self, a: int, _b: int, _c: int) -> None:
        """Bring up one of two devices, with one model ready on it or two."""
        name = f"d{a % 2}"
        if name not in self.devices:
            self.policy.device_up(name)
            self.devices[name] = Device()
            for offset in range(1 + a % 3):
                self.model_ready(a, a + offset, 0)

    def device_down(self, a: int, _b: int, _c: int) -> None:
        """Lose a device; its batches fail right after."""
        name = f"d{a % 2}"
        device = self.devices.pop(name, None)
        self.policy.device_down(name)
        if device is not None:
            for batch in (device.running, device.staged):
                if batch is not None:
                    self.policy.completed(batch)
                    self.end((e for e in batch.entries if e.state is State.RUNNING), "failed")

    def model_ready(self, a: int, b: int, _c: int) -> None:
        """Let a device run a model."""
        key = self.keys[b % len(self.keys)]
        self.policy.model_ready(f"d{a % 2}", key.model)
        if f"d{a % 2}" in self.devices:
            self.devices[f"d{a % 2}"].models.add(key.model.name)

    def model_gone(self, a: int, b: int, _c: int) -> None:
        """Let a device run a model no more."""
        key = self.keys[b % len(self.keys)]
        self.policy.model_gone(f"d{a % 2}", key.model)
        if f"d{a % 2}" in self.devices:
            self.devices[f"d{a % 2}"].models.discard(key.model.name)

    def abandon(self, a: int, _b: int, c: int) -> None:
        """Give up a model; rarely, or nothing would ever be seen to run."""
        if c % 8:
            return
        model = self.keys[a % len(self.keys)].model
        expected = {e for k, q in self.queues.items() if k.model == model for e in q} | {
            e
            for batch in self.retries
            if batch.key.model == model
            for e in batch.entries
            if e.state is State.RUNNING
        }
        abandoned = self.policy.abandon(model)
        assert (len(expected), expected) == (len(abandoned), set(abandoned))
        self.end(abandoned, "abandoned")
        for key, queue in self.queues.items():
            if key.model == model:
                queue.clear()
        self.retries = [batch for batch in self.retries if batch.key.model != model]

    def drain(self, _a: int, _b: int, c: int) -> None:
        """Begin to drain; rarely, because there is no way back."""
        if c % 16 == 0:
            self.draining = True
            self.policy.drain()

    # -- the turn and its checks ----------------------------------------------------------------

    def turn(self) -> None:
        """Expire, take and check, as the scheduler's turn."""
        due = {e for e in self.waiting() if e.deadline is not None and e.deadline <= self.now}
        self.check_expired(self.policy.expire(self.now), due)
        while True:
            before = {key: list(queue) for key, queue in self.queues.items()}
            batch = self.policy.take(self.now)
            if batch is None:
                break
            self.check_batch(batch, before)
        self.check_nothing_left_that_could_leave()
        self.check_due()
        self.check_sums()

    def end(self, entries: Iterable[Entry], how: str) -> None:
        """Note the end of entries, which must be their first."""
        for entry in entries:
            assert entry not in self.ended
            self.ended[entry] = how
            entry.state = State.DONE
            self.log.append((entry.request.id, how))

    def waiting(self) -> list[Entry]:
        """All that waits: queued, or in a part of a failed batch."""
        again = (e for batch in self.retries for e in batch.entries if e.state is State.RUNNING)
        return [*(entry for queue in self.queues.values() for entry in queue), *again]

    def check_expired(self, expired: list[Entry], due: set[Entry]) -> None:
        """Exactly those that wait and whose deadline has come expire."""
        assert (len(due), due) == (len(expired), set(expired))
        for entry in expired:
            assert State.DONE is entry.state
            if entry in self.queues[entry.key]:
                self.queues[entry.key].remove(entry)
        self.end(expired, "expired")

    def check_batch(self, batch: Batch, before: dict[BatchKey, list[Entry]]) -> None:
        """Check that a batch is what the contract says; note where it went."""
        key, device = batch.key, self.devices[batch.device]
        self.log.append(
            (batch.reason, batch.device, batch.rows, *(e.request.id for e in batch.entries))
        )
        assert key.model.name in device.models
        assert batch.entries
        assert batch.formed_at == self.now
        assert sum(e.rows for e in batch.entries) == batch.rows <= key.max_rows
        assert sum(e.nbytes for e in batch.entries) == batch.nbytes <= key.max_bytes
        for entry in batch.entries:
            assert key is entry.key
            assert State.RUNNING is entry.state
            assert entry not in self.ended
            assert entry.deadline is None or entry.deadline > self.now
        staged = device.running is not None
        assert staged == batch.staged
        if batch.reason is Reason.RETRY:
            assert not staged
            self.retries.remove(batch)
            device.running = batch
            return
        queue = self.queues[key]
        assert queue[: len(batch.entries)] == batch.entries
        del queue[: len(batch.entries)]
        full = self.is_full(key, before[key])
        due = self.due(before, device)
        assert key in due
        assert min(q[0].arrived for q in due.values()) == batch.entries[0].arrived
        if staged:
            assert full
            assert device.staged is None
            device.staged = batch
        else:
            device.running = batch
            assert not self.rests(batch.device) or any(starmap(self.is_full, due.items()))
        if full:
            expected = Reason.FULL
        elif self.draining:
            expected = Reason.DRAIN
        else:
            expected = Reason.DELAY if key.max_delay else Reason.IDLE
        assert expected is batch.reason
        # Only a queue that fits into one batch as a whole leaves as a batch that is not full.
        assert full or not queue

    def is_full(self, key: BatchKey, queue: list[Entry]) -> bool:
        """Whether a queue has a batch to which nothing could be added."""
        return (
            sum(e.rows for e in queue) >= key.max_rows
            or sum(e.nbytes for e in queue) >= key.max_bytes
        )

    def rest(self, device: str) -> float:
        """Return until when a device wants full batches only; the rule itself has its own tests."""
        return self.policy._devices[device].rests_until

    def rests(self, device: str) -> bool:
        """Whether a device waits for a full batch."""
        return not self.draining and self.now < self.rest(device)

    def due(
        self, queues: Mapping[BatchKey, list[Entry]], device: Device
    ) -> dict[BatchKey, list[Entry]]:
        """Return the queues that a device may run and that need wait for no company."""
        return {
            key: queue
            for key, queue in queues.items()
            if queue
            and key.model.name in device.models
            and (
                self.draining
                or self.is_full(key, queue)
                or self.now >= queue[0].arrived + key.max_delay
            )
        }

    def check_nothing_left_that_could_leave(self) -> None:
        """No device is idle and rested beside something due, or unstaged beside a full head."""
        for name, device in self.devices.items():
            due = self.due(self.queues, device)
            if device.running is None:
                full = any(starmap(self.is_full, due.items()))
                assert not due or (self.rests(name) and not full)
                assert not any(
                    e.state is State.RUNNING
                    for batch in self.retries
                    if batch.key.model.name in device.models
                    for e in batch.entries
                )
            elif device.staged is None and due and not self.retries:
                oldest = min(q[0].arrived for q in due.values())
                heads = [(k, q) for k, q in due.items() if q[0].arrived == oldest]
                assert not all(starmap(self.is_full, heads))

    def check_due(self) -> None:
        """Check that the next moment is the first deadline, delay or rest that anything awaits."""
        moments = [e.deadline for e in self.waiting() if e.deadline is not None]
        moments += [
            max(queue[0].arrived + key.max_delay, self.rest(name))
            for name, device in self.devices.items()
            if device.running is None
            for key, queue in self.queues.items()
            if queue and key.model.name in device.models
        ]
        due = self.policy.next_due(self.now)
        assert min(moments, default=None) == due
        assert due is None or due > self.now

    def check_sums(self) -> None:
        """Entries and rows are conserved, and the figures say so."""
        statistics = self.policy.statistics()
        queued = [entry for queue in self.queues.values() for entry in queue]
        assert len(queued) == statistics.queued_entries
        assert sum(e.rows for e in queued) == statistics.queued_rows
        assert sum(map(bool, self.queues.values())) == statistics.queues
        held = [d.running for d in self.devices.values()] + [
            d.staged for d in self.devices.values()
        ]
        assert sum(d.running is not None for d in self.devices.values()) == statistics.running
        assert sum(d.staged is not None for d in self.devices.values()) == statistics.staged
        places = [*self.waiting(), *self.ended]
        places += [e for b in held if b is not None for e in b.entries if e.state is State.RUNNING]
        assert len(places) == len(set(places)) == len(self.entries)
        assert sum(self.policy.queued_rows().values()) == statistics.queued_rows
        assert {e.key.model for e in self.waiting()} <= self.policy.waiting_models()

    def finish(self) -> None:
        """Drain with all devices and models there, and check that nothing stays."""
        self.draining = True
        self.policy.drain()
        for device in range(2):
            self.device_up(device, 0, 0)
            for model in range(len(self.keys)):
                self.model_ready(device, model, 0)
        self.turn()
        while any(device.running for device in self.devices.values()):
            self.step(("complete", 0, 0, 0))
        assert set(self.entries) == set(self.ended)
        assert (0, 0, 0, 0, 0) == tuple(
            getattr(self.policy.statistics(), name)
            for name in ("queued_entries", "queued_rows", "queues", "running", "staged")
        )
        assert set() == self.policy.waiting_models()
