"""All that waits, by key, and its sums."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final, TypeVar

from jitney.scheduling.batch import State
from jitney.scheduling.entry_heap import EntryHeap
from jitney.scheduling.queue import KeyQueue

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from jitney.scheduling.batch import BatchKey, Entry
    from jitney.scheduling.device import DeviceState
    from jitney.scheduling.fleet import Fleet
    from jitney.types import ModelRef

K = TypeVar("K")

__all__ = ["CANDIDATES", "Backlog"]

CANDIDATES: Final = 32
"""Queues that are all looked at for each batch."""
URGENT: Final = 8
"""Entries of each kind whose queues are looked at where there are more."""
IDLE_QUEUES: Final = 256
"""Queues remembered for their demand after they emptied."""


class Backlog:
    """The queues and what is in them.

    ``waiting`` are the queues that are not empty, ``full`` those with a full batch. ``expiries``
    has the entries that must leave by some moment, by the last one at which they can be started;
    ``turns`` the others, by their turn.

    Invariants: ``rows``, ``tenant_rows`` and ``class_rows`` are sums over what waits, without
    zeros; the last only of models that bound them.
    """

    __slots__ = (
        "_queues",
        "class_rows",
        "expiries",
        "full",
        "rows",
        "tenant_rows",
        "turns",
        "waiting",
    )

    def __init__(self) -> None:
        self._queues: dict[BatchKey, KeyQueue] = {}
        self.waiting: dict[KeyQueue, None] = {}
        self.full: set[KeyQueue] = set()
        self.rows: dict[ModelRef, int] = {}
        self.tenant_rows: dict[tuple[ModelRef, str], int] = {}
        self.class_rows: dict[tuple[ModelRef, int], int] = {}
        self.expiries = EntryHeap()
        self.turns = EntryHeap()

    @property
    def queues(self) -> Collection[KeyQueue]:
        """All queues, empty ones included."""
        return self._queues.values()

    def queue(self, key: BatchKey, now: float, fleet: Fleet) -> KeyQueue:
        """Return the queue of a key, made when there is none, with the latencies that hold now."""
        queue = self._queues.get(key)
        if queue is None:
            load = fleet.group(key.model).load
            queue = self._queues[key] = KeyQueue(key, fleet.reference(key), now, load)
            queue.epoch = fleet.epoch
        elif queue.epoch != fleet.epoch:
            queue.latency = fleet.reference(key)
            queue.epoch = fleet.epoch
        queue.used_at = now
        return queue

    def find(self, key: BatchKey) -> KeyQueue | None:
        """Return the queue of a key, if there is one."""
        return self._queues.get(key)

    def push(self, queue: KeyQueue, entry: Entry, margin: float) -> None:
        """Let an entry wait that has its position.

        :param margin: seconds that its reply takes beside the device's time.
        """
        if entry.is_timed:
            queue.timed.push(entry)
            self.expiries.push(queue.last_moment(entry, margin), entry)
        else:
            queue.background.push(entry)
            self.turns.push(entry.position, entry)
        self.waiting[queue] = None
        if queue.is_full():
            self.full.add(queue)
        model = entry.key.model
        self.rows[model] = self.rows.get(model, 0) + entry.rows
        if entry.tenant:
            place = (model, entry.tenant)
            self.tenant_rows[place] = self.tenant_rows.get(place, 0) + entry.rows
        if entry.key.class_queue_rows:
            kind = (model, entry.priority)
            self.class_rows[kind] = self.class_rows.get(kind, 0) + entry.rows

    def remove(self, entry: Entry) -> None:
        """Take a waiting entry out for good."""
        entry.state = State.DONE
        self.withdraw(entry)

    def withdraw(self, entry: Entry) -> None:
        """Take a waiting entry out, of which ``push`` may let it wait again elsewhere."""
        queue = self._queues[entry.key]
        lane = queue.timed if entry.is_timed else queue.background
        lane.remove(entry)
        self.left(queue, (entry,))

    def left(self, queue: KeyQueue, entries: Sequence[Entry]) -> None:
        """Bring the sums up to date after entries were taken out of a queue's lanes."""
        if not entries:
            return
        model = queue.key.model
        rows = timed = 0
        for entry in entries:
            rows += entry.rows
            timed += entry.is_timed
            if entry.tenant:
                _subtract(self.tenant_rows, (model, entry.tenant), entry.rows)
        if queue.key.class_queue_rows:
            for entry in entries:
                _subtract(self.class_rows, (model, entry.priority), entry.rows)
        self.expiries.left(timed)
        self.turns.left(len(entries) - timed)
        _subtract(self.rows, model, rows)
        if not queue.is_full():
            self.full.discard(queue)
        if not len(queue):
            self.waiting.pop(queue, None)

    def of_model(self, model: ModelRef) -> list[Entry]:
        """Return what waits for a model."""
        return [
            entry
            for queue in self.waiting
            if queue.key.model == model
            for lane in (queue.timed, queue.background)
            for entry in lane.entries
        ]

    def last_turn(self, model: ModelRef) -> float:
        """Return the last turn of a model's entries without deadline, 0 if there are none."""
        return max(
            (
                queue.background.positions[-1]
                for queue in self.waiting
                if queue.key.model == model and queue.background.positions
            ),
            default=0.0,
        )

    def from_behind(self, model: ModelRef, tenant: str) -> Iterable[Entry]:
        """Yield a tenant's entries for a model, those without deadline first, the last first."""
        queues = [queue for queue in self.waiting if queue.key.model == model]
        for lanes in ([q.background for q in queues], [q.timed for q in queues]):
            for lane in lanes:
                yield from (entry for entry in reversed(lane.entries) if entry.tenant == tenant)

    def candidates(self, device: DeviceState) -> Iterable[KeyQueue]:
        """Return the queues that a device may be given something of: the most urgent, if many.

        Shapes come from the wire, so there may be thousands of queues; who is not urgent enough to
        be looked at now will be later.
        """
        if len(self.waiting) <= CANDIDATES:
            return self.waiting
        models = device.models
        urgent = (
            *self.expiries.first(URGENT, models),
            *self.turns.first(URGENT, models),
        )
        return dict.fromkeys(self._queues[entry.key] for entry in urgent)

    def forget_idle(self) -> None:
        """Forget queues that have been empty for longest, if there are many."""
        excess = len(self._queues) - len(self.waiting) - IDLE_QUEUES
        if excess > 0:
            idle = [queue for queue in self._queues.values() if not len(queue)]
            for queue in sorted(idle, key=_used_at)[:excess]:
                del self._queues[queue.key]


_used_at = operator.attrgetter("used_at")


def _subtract(sums: dict[K, int], key: K, rows: int) -> None:
    left = sums[key] - rows
    if left:
        sums[key] = left
    else:
        del sums[key]
