"""Which batch leaves next, for which device, and when: the decisions, and nothing else."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jitney.errors import Overloaded
from jitney.scheduling.batch import NO_DEADLINE, Batch, Reason, State
from jitney.scheduling.queue import KeyQueue

if TYPE_CHECKING:
    from jitney.scheduling.batch import BatchKey, Entry
    from jitney.types import ModelRef

LONGEST_REST: Final = 0.002
"""Seconds between the starts of two batches that the rule of rest may ask for, at most."""

__all__ = ["DeviceState", "Policy", "PolicyStatistics"]


@dataclass(slots=True)
class DeviceState:
    """What the policy knows of a device: what it may run, and what it has been given.

    Until ``rests_until`` it is given nothing unless some queue has a full batch.
    """

    name: str
    models: set[ModelRef] = field(default_factory=set)
    running: Batch | None = None
    staged: Batch | None = None
    rests_until: float = 0.0


@dataclass(frozen=True, slots=True)
class PolicyStatistics:
    """What is where, for metrics, status and tests."""

    queued_entries: int
    queued_rows: int
    queues: int
    running: int
    staged: int


class Policy:
    """Groups what is waiting into batches, as late as possible.

    A batch is formed when a device can take it, never before, so load alone makes batches grow;
    no timer is needed for that. Only a *full* batch is staged behind a running one: a batch that
    still has room would age there while newcomers could have joined it.

    *Rest.* A batch costs the host a fixed time whatever its rows: two messages, two wake-ups, the
    bookkeeping. When models are small and callers are many, batches that leave at the first chance
    have one or two rows, that cost is all that the host's cores do, and everybody waits longer. So
    batches that are not full start, on each device, so far apart that their fixed cost takes at
    most the share ``max_overhead`` of the host's time. A model that runs longer than that never
    meets the rule, nor does a caller who is alone: it only applies after a batch that others
    arrived beside, in the same batch or while it ran. 1 switches it off.

    The object is pure. It has no clock, lock, thread, await or random number; every method takes
    ``now`` in monotonic seconds, which must not go back. The caller serialises the calls and does
    what they return.

    *Bound.* With a device free and rested, an entry of a key with ``max_delay`` 0 leaves in the
    same call of ``take`` that follows its offer. With ``max_delay`` d it leaves no later than d
    after its arrival, or as soon as its batch is full. With all devices busy it leaves when the
    entries before it in its queue have left and a device is free; queues with the oldest head go
    first, so no queue waits for ever.

    Invariants, checked by the tests on random schedules:

    - an entry is in one queue, or in one batch, or done; rows are conserved;
    - a batch has entries of one key, at most ``max_rows`` rows, and at least one entry;
    - a device has at most one running and one staged batch, and what is staged is full;
    - no cancelled or expired entry is put into a batch;
    - while a device that may run them is idle and rested, no due entries wait;
    - within a queue, entries leave in the order in which they came.
    """

    def __init__(self, max_overhead: float = 1.0) -> None:
        self._max_overhead = max_overhead
        self._overhead = 0.0
        self._devices: dict[str, DeviceState] = {}
        self._queues: dict[BatchKey, KeyQueue] = {}
        self._model_rows: dict[ModelRef, int] = {}
        self._retries: deque[Batch] = deque()
        self._deadlines: list[tuple[float, int, Entry]] = []
        self._queued_with_deadline = 0
        self._sequence = itertools.count()
        self._draining = False

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        s = self.statistics()
        return (
            f"<Policy {s.queued_entries} queued ({s.queued_rows} rows) in {s.queues} queues, "
            f"{s.running} running, {s.staged} staged>"
        )

    # -- what may run where ---------------------------------------------------------------------

    def device_up(self, name: str) -> None:
        """Add a device; it runs nothing until models are ready on it."""
        self._devices[name] = DeviceState(name)

    def device_down(self, name: str) -> None:
        """Remove a device; its batches are the executor's to fail."""
        self._devices.pop(name, None)

    def model_ready(self, device: str, model: ModelRef) -> None:
        """Let a device run a model."""
        if device in self._devices:
            self._devices[device].models.add(model)

    def model_gone(self, device: str, model: ModelRef) -> None:
        """Give no more batches of a model to a device."""
        if device in self._devices:
            self._devices[device].models.discard(model)

    def drain(self) -> None:
        """From now on let everything leave as soon as a device is free, waiting for no company."""
        self._draining = True

    # -- entries --------------------------------------------------------------------------------

    def offer(self, entry: Entry) -> None:
        """Queue an entry.

        :raises Overloaded: when its model has ``max_queue_rows`` rows waiting already.
        """
        key = entry.key
        rows = self._model_rows.get(key.model, 0)
        if rows + entry.rows > key.max_queue_rows:
            msg = (
                f"Exceeds maximum queue size: {rows} rows of model '{key.model.name}' are waiting, "
                f"the limit is {key.max_queue_rows}"
            )
            raise Overloaded(msg, reason="QUEUE_FULL")
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = KeyQueue(key)
        queue.push(entry)
        self._model_rows[key.model] = rows + entry.rows
        if entry.deadline is not None:
            self._queued_with_deadline += 1
            heapq.heappush(self._deadlines, (entry.deadline, next(self._sequence), entry))
            if len(self._deadlines) > 2 * self._queued_with_deadline + 64:
                self._deadlines = [x for x in self._deadlines if x[2].state is State.QUEUED]
                heapq.heapify(self._deadlines)

    def cancel(self, entry: Entry) -> bool:
        """Take an entry back; return whether it was still waiting.

        One that is running stays in its batch, where its rows are computed and nobody is told.
        """
        was_queued = entry.state is State.QUEUED
        entry.state = State.DONE
        if was_queued:
            self._forget(entry)
        return was_queued

    def expire(self, now: float) -> list[Entry]:
        """Remove and return the waiting entries whose deadline has come.

        Those in parts of failed batches count as waiting: nobody wants their second run any more.
        """
        expired = []
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now or deadlines[0][2].state is not State.QUEUED):
            entry = heapq.heappop(deadlines)[2]
            if entry.state is State.QUEUED:
                entry.state = State.DONE
                self._forget(entry)
                expired.append(entry)
        for batch in self._retries:
            for entry in batch.entries:
                if entry.state is State.RUNNING and _deadline(entry) <= now:
                    entry.state = State.DONE
                    expired.append(entry)
        return expired

    def abandon(self, model: ModelRef) -> list[Entry]:
        """Remove and return all waiting entries of a model that no device will run any more."""
        abandoned = []
        for queue in [q for q in self._queues.values() if q.key.model == model]:
            while len(queue):
                entries, rows, _, _ = queue.take()
                self._account(queue, entries, rows)
                abandoned += entries
        kept = deque(batch for batch in self._retries if batch.key.model != model)
        for batch in self._retries:
            if batch.key.model == model:
                abandoned += [entry for entry in batch.entries if entry.state is State.RUNNING]
        self._retries = kept
        for entry in abandoned:
            entry.state = State.DONE
        return abandoned

    def _forget(self, entry: Entry) -> None:
        queue = self._queues[entry.key]
        queue.discard(entry)
        self._account(queue, (entry,), entry.rows)

    def _account(self, queue: KeyQueue, gone: list[Entry] | tuple[Entry], rows: int) -> None:
        """Bring the sums up to date after entries left a queue."""
        model = queue.key.model
        remaining = self._model_rows[model] - rows
        if remaining:
            self._model_rows[model] = remaining
        else:
            del self._model_rows[model]
        for entry in gone:
            if entry.deadline is not None:
                self._queued_with_deadline -= 1
        if not len(queue):
            del self._queues[queue.key]

    # -- batches --------------------------------------------------------------------------------

    def take(self, now: float) -> Batch | None:
        """Form the next batch that can start (or, if full, be staged) now, or return None.

        Call it until it returns None. Three cases, in this order:

        1. an idle device and part of a failed batch that it may run: that first, it has waited;
        2. an idle device and a queue that is due: of those, the one with the oldest head. While
           the device rests, only if some queue is full; then there is no sense in resting;
        3. a device that runs a batch and has none staged, and a full batch of the queue with the
           oldest head. Staging a younger one because it is full would let a busy model keep the
           device for ever from one that never fills a batch.
        """
        for device in self._devices.values():
            if device.running is None:
                if self._retries and (batch := self._take_retry(device, now)) is not None:
                    device.running = batch
                    return batch
                rests = now < device.rests_until and not self._draining
                if (queue := self._next(device, now, need_full=rests)) is not None:
                    device.running = self._close(queue, device, now)
                    return device.running
        for device in self._devices.values():
            if device.running is None or device.staged is not None or self._retries:
                continue
            queue = self._next(device, now, need_full=True)
            if queue is not None and queue.is_full():
                device.staged = self._close(queue, device, now)
                device.staged.staged = True
                return device.staged
        return None

    def completed(self, batch: Batch, overhead: float = 0.0) -> None:
        """Note that a device is done with a batch, however it ended; what it has staged runs.

        :param overhead: seconds from the forming of the batch to now, less those that the worker
            spent on it; 0 where nobody knows.
        """
        device = self._devices.get(batch.device)
        if device is None:
            return
        if device.running is batch:
            device.running, device.staged = device.staged, None
        elif device.staged is batch:
            device.staged = None
        if overhead > 0 and self._max_overhead < 1:
            # One late wake-up must not stop the device, so a single value moves it by an eighth
            # and counts for at most four times what was usual.
            usual = self._overhead or overhead
            self._overhead += (min(overhead, 4 * usual) - self._overhead) / 8
            if len(batch.entries) > 1 or self._queues:
                spacing = self._overhead * len(self._devices) / self._max_overhead
                device.rests_until = batch.formed_at + min(spacing, LONGEST_REST)

    def retry(self, batch: Batch) -> None:
        """Run part of a failed batch again, before anything that waits."""
        self._retries.append(batch)

    def next_due(self, now: float) -> float | None:
        """Return when ``take`` or ``expire`` will have something to do without a new event.

        None means never: only an offer or a completion can change anything.
        """
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].state is not State.QUEUED:
            heapq.heappop(deadlines)
        due = deadlines[0][0] if deadlines else None
        for batch in self._retries:
            for entry in batch.entries:
                leaves = _deadline(entry)
                if entry.state is State.RUNNING and leaves < (NO_DEADLINE if due is None else due):
                    due = leaves
        for device in self._devices.values():
            if device.running is not None:
                continue
            for queue in self._queues.values():
                head = queue.head()
                if head is None or queue.key.model not in device.models:
                    continue
                leaves = max(head.arrived + queue.key.max_delay, device.rests_until)
                if leaves > now and (due is None or leaves < due):
                    due = leaves
        return due

    def statistics(self) -> PolicyStatistics:
        """Return the current figures."""
        return PolicyStatistics(
            queued_entries=sum(len(queue) for queue in self._queues.values()),
            queued_rows=sum(self._model_rows.values()),
            queues=len(self._queues),
            running=sum(device.running is not None for device in self._devices.values()),
            staged=sum(device.staged is not None for device in self._devices.values()),
        )

    def waiting_models(self) -> set[ModelRef]:
        """Return the models that have entries waiting, parts of failed batches included."""
        return set(self._model_rows) | {batch.key.model for batch in self._retries}

    def queued_rows(self) -> dict[ModelRef, int]:
        """Return how many rows of each model are waiting; a copy, safe to read anywhere."""
        return dict(self._model_rows)

    def _take_retry(self, device: DeviceState, now: float) -> Batch | None:
        for batch in list(self._retries):
            if batch.key.model not in device.models:
                continue
            self._retries.remove(batch)
            batch.entries = [e for e in batch.entries if e.state is State.RUNNING]
            if not batch.entries:  # all were cancelled meanwhile
                continue
            batch.rows = sum(entry.rows for entry in batch.entries)
            batch.nbytes = sum(entry.nbytes for entry in batch.entries)
            batch.device = device.name
            batch.formed_at = now
            return batch
        return None

    def _next(self, device: DeviceState, now: float, *, need_full: bool) -> KeyQueue | None:
        """Return the due queue with the oldest head that a device may run.

        :param need_full: return None unless some such queue is full, not necessarily this one.
        """
        best: KeyQueue | None = None
        best_arrived = 0.0
        some_full = False
        models = device.models
        for queue in self._queues.values():
            key = queue.key
            head = queue.head()
            if head is None or key.model not in models:
                continue
            arrived = head.arrived
            if queue.is_full():
                some_full = True
            elif key.max_delay and not self._draining and now < arrived + key.max_delay:
                continue
            if best is None or arrived < best_arrived:
                best, best_arrived = queue, arrived
        return None if need_full and not some_full else best

    def _close(self, queue: KeyQueue, device: DeviceState, now: float) -> Batch:
        entries, rows, nbytes, full = queue.take()
        self._account(queue, entries, rows)
        if full:
            reason = Reason.FULL
        elif self._draining:
            reason = Reason.DRAIN
        elif queue.key.max_delay:
            reason = Reason.DELAY
        else:
            reason = Reason.IDLE
        return Batch(queue.key, entries, rows, reason, device.name, now, nbytes)


def _deadline(entry: Entry) -> float:
    return NO_DEADLINE if entry.deadline is None else entry.deadline
