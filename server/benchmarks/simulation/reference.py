"""The published design, unchanged: a second account of the rule that the server's policy refines.

One class of requests of one row, one tenant, one SLO, latencies on a known line. It keeps us
honest: it must reproduce the figures that were published with the design, which shows that this
simulator and theirs agree, and the server's policy must not be worse.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from benchmarks.simulation.baselines import LATE, NOTHING, Turn
from jitney.errors import Overloaded
from jitney.scheduling.batch import Batch, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.simulation.line import Line
    from jitney.errors import JitneyError
    from jitney.scheduling.batch import BatchKey, Entry

__all__ = ["Reference"]

REPRICE: Final = 0.010
KAPPA: Final = 1.5
LEAST, MOST, SLOPE, KNEE = 0.6, 1.0, 4.0, 0.95
"""The factor on the price: LEAST until the load reaches KNEE, then rising by SLOPE to MOST."""
EPSILON: Final = 1e-6
FULL: Final = Overloaded("too much is waiting", reason="PREDICTED_LATE")


class Queue:
    """Entries by deadline, as a list whose first ``head`` have left."""

    __slots__ = ("entries", "head", "rate", "seen")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.head = 0
        self.rate = 0.0
        self.seen = 0.0

    def __len__(self) -> int:
        return len(self.entries) - self.head

    def pop(self, count: int) -> list[Entry]:
        """Remove and return the first ``count``."""
        taken = self.entries[self.head : self.head + count]
        self.head += count
        if self.head > 1024 and self.head * 2 > len(self.entries):
            del self.entries[: self.head]
            self.head = 0
        return taken


class Reference:
    """Priced earliest-deadline-first with look-ahead and admission by a virtual device clock.

    ``best`` is b*, the batch whose price per row is paid; ``factor`` holds the price where it is
    if it is given, instead of following the load. ``defers`` is the mode that frees devices: a
    queue waits for b* rows, or for the last moment at which one more would still fit.
    """

    def __init__(
        self,
        line: Line,
        devices: Iterable[str],
        slo: float,
        best: int,
        *,
        factor: float | None = None,
        defers: bool = False,
    ) -> None:
        self._line = line
        self._slo = slo
        self._best = best
        self._price = best / line.seconds(best)
        self._fixed = factor
        self._defers = defers
        self._factor = LEAST if factor is None else factor
        self._priced_at = -math.inf
        self._idle = list(devices)
        self._count = len(self._idle)
        self._free_at = dict.fromkeys(self._idle, 0.0)
        self._queues: dict[BatchKey, Queue] = {}
        self._waiting = 0

    def offer(self, entry: Entry, now: float) -> Sequence[tuple[Entry, JitneyError]]:
        """Take an entry unless what waits already would make it late."""
        queue = self._queues.get(entry.key)
        if queue is None:
            queue = self._queues[entry.key] = Queue()
        tau = 4 * self._slo
        queue.rate = queue.rate * math.exp((queue.seen - now) / tau) + 1 / tau
        queue.seen = now
        if now - self._priced_at >= REPRICE:
            self._reprice(now)
        # Optimistic: what waits is done at the ceiling of all devices, no batch costs anything.
        wait = self._waiting * self._line.alpha / self._count
        if not self._idle:
            wait += max(0.0, min(self._free_at.values()) - now)
        if now + wait + self._line.seconds(1) > entry.deadline:
            raise FULL
        queue.entries.append(entry)
        self._waiting += 1
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

    def next_due(self, now: float) -> float | None:
        """Return when the first entry becomes hopeless, or a queue that was deferred must start."""
        queues = [queue for queue in self._queues.values() if len(queue)]
        if not queues:
            return None
        if self._idle:
            return min(self._last_moment(queue, self._plan(queue, now)[0]) for queue in queues)
        heads = [queue.entries[queue.head].deadline for queue in queues]
        return min(heads) - self._line.seconds(1) + EPSILON

    def turn(self, now: float) -> Turn:
        """Give up the hopeless, then give every idle device the most urgent batch."""
        end = now + self._line.seconds(1)
        turn = NOTHING
        for queue in self._queues.values():
            while len(queue) and queue.entries[queue.head].deadline < end:
                turn = turn if turn is not NOTHING else Turn([], [])
                turn.refused.append((queue.pop(1)[0], LATE))
                self._waiting -= 1
        while self._idle and self._waiting:
            turn = turn if turn is not NOTHING else Turn([], [])
            if not self._start(now, turn):
                break
        return turn

    def _start(self, now: float, turn: Turn) -> bool:
        line, chosen = self._line, None
        for key, queue in self._queues.items():
            if len(queue):
                shed, rows, value = self._plan(queue, now)
                if self._defers and not self._is_ready(queue, shed, rows, now):
                    continue
                seconds = line.seconds(rows)
                latest = queue.entries[queue.head + shed].deadline - seconds
                rank = (latest, -value / seconds)
                if chosen is None or rank < chosen[0]:
                    chosen = rank, key, queue, shed, rows
        if chosen is None:
            return False
        _, key, queue, shed, rows = chosen
        turn.refused.extend((entry, LATE) for entry in queue.pop(shed))
        device = self._idle.pop()
        self._free_at[device] = now + line.seconds(rows)
        turn.batches.append(Batch(key, queue.pop(rows), rows, Reason.IDLE, device, now))
        self._waiting -= shed + rows
        return True

    def _is_ready(self, queue: Queue, shed: int, rows: int, now: float) -> bool:
        all_fits = shed + rows == len(queue)
        return len(queue) >= self._best or not all_fits or now >= self._last_moment(queue, shed)

    def _last_moment(self, queue: Queue, shed: int) -> float:
        head = queue.entries[queue.head + shed]
        return head.deadline - self._line.seconds(len(queue) + 1)

    def _plan(self, queue: Queue, now: float) -> tuple[int, int, float]:
        """Return how many heads to shed, how many rows to run after them, and what it is worth."""
        entries, head, line = queue.entries, queue.head, self._line
        price, kept = self._factor * self._price, 1 - self._factor
        best, lost, count = (0, 0, -math.inf), 0.0, len(queue)
        for shed in range(min(count, 4 * self._best + 1)):
            left = count - shed
            rows = min(left, line.rows_within(entries[head + shed].deadline - now))
            value = rows - lost - (price * line.seconds(rows) if rows else 0.0)
            if value > best[2]:
                best = shed, rows, value
            if rows == left:
                break
            lost += kept
        return best

    def _reprice(self, now: float) -> None:
        self._priced_at = now
        if self._fixed is not None:
            return
        tau, capacity = 4 * self._slo, self._count * self._price
        rate = sum(q.rate * math.exp((q.seen - now) / tau) for q in self._queues.values())
        load = max(rate, KAPPA * self._waiting / self._slo) / capacity
        self._factor = min(MOST, max(LEAST, LEAST + SLOPE * (load - KNEE)))
