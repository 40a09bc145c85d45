"""Published rules in our words, as policies of their own: what the server would be without ours.

All assume what the settings grant: one SLO, requests of one row, latencies that are known. The
papers' and servers' own code was not used, and is not represented in every detail.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from jitney.errors import DeadlineExpired, JitneyError
from jitney.scheduling.batch import Batch, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.simulation.line import Line
    from jitney.scheduling.batch import BatchKey, Entry

__all__ = ["Baseline", "Deferred", "Fixed", "LookAhead", "Nexus", "Rule", "Turn"]

LATE = DeadlineExpired("too late to start")
"""One for all: a traceback is never looked at, and making an error takes longer than deciding."""


class Turn(NamedTuple):
    """What was decided."""

    refused: list[tuple[Entry, JitneyError]]
    batches: list[Batch]


NOTHING = Turn([], [])


class Rule(Protocol):
    """How one queue is treated when a device is free; stateless.

    ``queue`` is in the order of deadlines and not empty.
    """

    def dropped(self, queue: deque[Entry], now: float) -> int:
        """Return how many heads to give up, all of them at most."""

    def taken(self, queue: deque[Entry], now: float) -> int:
        """Return how many to start with; 0 to wait."""

    def wakes(self, queue: deque[Entry]) -> float:
        """Return when a queue that waits starts at the latest."""

    def urgency(self, queue: deque[Entry], count: int) -> float:
        """Return what the queues that may start are ordered by, least first."""


class Fixed(NamedTuple):
    """Triton's rule: ``rows`` are waiting, or the oldest waited for ``delay``; drops the expired.

    A delay of 0 is eager batching.
    """

    line: Line
    rows: float = math.inf
    delay: float = 0.0

    def dropped(self, queue: deque[Entry], now: float) -> int:
        """Drop what has expired: execution time is not looked at."""
        return _heads(queue, now)

    def taken(self, queue: deque[Entry], now: float) -> int:
        """Take all that may be taken, once there are enough or the delay is over."""
        if len(queue) < self.rows and now < queue[0].arrived + self.delay:
            return 0
        return int(min(len(queue), self.rows))

    def wakes(self, queue: deque[Entry]) -> float:
        """Wait for the delay."""
        return queue[0].arrived + self.delay

    def urgency(self, queue: deque[Entry], count: int) -> float:  # noqa: ARG002
        """Order by the deadline."""
        return queue[0].deadline


class LookAhead(NamedTuple):
    """Earliest deadline first, as many as the first one's slack allows (Clockwork's idea)."""

    line: Line

    def dropped(self, queue: deque[Entry], now: float) -> int:
        """Drop what could not be in time even alone."""
        return _heads(queue, now + self.line.seconds(1))

    def taken(self, queue: deque[Entry], now: float) -> int:
        """Take what the head's slack allows."""
        return min(len(queue), self.line.rows_within(queue[0].deadline - now))

    def wakes(self, queue: deque[Entry]) -> float:
        """Never wait."""
        return queue[0].arrived

    def urgency(self, queue: deque[Entry], count: int) -> float:
        """Order by the latest start that is in time."""
        return queue[0].deadline - self.line.seconds(count)


class Deferred(NamedTuple):
    """Symphony's idea: start at the last moment at which one more would still fit."""

    line: Line

    def dropped(self, queue: deque[Entry], now: float) -> int:
        """Drop what could not be in time even alone."""
        return _heads(queue, now + self.line.seconds(1))

    def taken(self, queue: deque[Entry], now: float) -> int:
        """Take what fits, if there is more than fits or no time to wait for more."""
        fitting = self.line.rows_within(queue[0].deadline - now)
        if len(queue) <= fitting and now < self.wakes(queue):
            return 0
        return min(len(queue), fitting)

    def wakes(self, queue: deque[Entry]) -> float:
        """Return when one more would no longer fit."""
        return queue[0].deadline - self.line.seconds(len(queue) + 1)

    def urgency(self, queue: deque[Entry], count: int) -> float:
        """Order by the latest start that is in time."""
        return queue[0].deadline - self.line.seconds(count)


class Nexus(NamedTuple):
    """Nexus's early drop: assume a batch of ``rows``, give up every head that would miss its end.

    As the queue empties the batch that is assumed shrinks with it.
    """

    line: Line
    rows: int

    def dropped(self, queue: deque[Entry], now: float) -> int:
        """Drop every head that the batch behind it would make late."""
        count, left = 0, len(queue)
        for entry in queue:
            if now + self.line.seconds(min(self.rows, left)) <= entry.deadline:
                break
            count += 1
            left -= 1
        return count

    def taken(self, queue: deque[Entry], now: float) -> int:  # noqa: ARG002  # the rule's interface
        """Take the batch."""
        return min(self.rows, len(queue))

    def wakes(self, queue: deque[Entry]) -> float:
        """Never wait."""
        return queue[0].arrived

    def urgency(self, queue: deque[Entry], count: int) -> float:  # noqa: ARG002
        """Order by the deadline."""
        return queue[0].deadline


class Baseline:
    """A policy (``testing.simulation.Decider``) that applies a rule to every queue.

    Among queues that may start, the one that is most urgent by the rule does.
    """

    def __init__(self, rule: Rule, devices: Iterable[str]) -> None:
        self._rule = rule
        self._idle = list(devices)
        self._queues: dict[BatchKey, deque[Entry]] = {}

    def offer(
        self,
        entry: Entry,
        now: float,  # noqa: ARG002  # the policy's interface
    ) -> Sequence[tuple[Entry, JitneyError]]:
        """Queue an entry; nothing is ever refused here."""
        queue = self._queues.get(entry.key)
        if queue is None:
            queue = self._queues[entry.key] = deque()
        queue.append(entry)
        return ()

    def completed(
        self,
        batch: Batch,
        now: float,  # noqa: ARG002
        seconds: float | None,  # noqa: ARG002
        overhead: float = 0.0,  # noqa: ARG002
    ) -> None:
        """Note that a device is free."""
        self._idle.append(batch.device)

    def next_due(self, now: float) -> float | None:  # noqa: ARG002
        """Return when a queue that waits must start."""
        if not self._idle:
            return None
        return min(map(self._rule.wakes, filter(None, self._queues.values())), default=None)

    def turn(self, now: float) -> Turn:
        """Start what the rule lets start."""
        if not self._idle:
            return NOTHING
        turn = Turn([], [])
        while self._idle:
            best: tuple[float, BatchKey, int] | None = None
            for key, queue in self._queues.items():
                if not queue:
                    continue
                for _ in range(self._rule.dropped(queue, now)):
                    turn.refused.append((queue.popleft(), LATE))
                count = self._rule.taken(queue, now) if queue else 0
                if not count:
                    continue
                urgency = self._rule.urgency(queue, count)
                if best is None or urgency < best[0]:
                    best = urgency, key, count
            if best is None:
                break
            _, key, count = best
            entries = [self._queues[key].popleft() for _ in range(count)]
            turn.batches.append(Batch(key, entries, count, Reason.IDLE, self._idle.pop(), now))
        return turn


def _heads(queue: deque[Entry], end: float) -> int:
    """Return how many heads have a deadline before ``end``."""
    count = 0
    for entry in queue:
        if end <= entry.deadline:
            break
        count += 1
    return count
