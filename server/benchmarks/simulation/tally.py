"""What became of the requests of one run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from jitney.scheduling.batch import NO_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from jitney.errors import JitneyError
    from jitney.scheduling.batch import Batch, Entry

__all__ = ["UNSERVED", "Group", "Misses", "Tally"]

UNSERVED: Final = "UNSERVED"
"""Why somebody without a deadline was not answered."""


class Misses:
    """Counts refusals and late answers, of arrivals from ``since`` on, and stops at ``limit``.

    Nothing else is remembered: this is for the search of a rate, which runs hundreds of times.
    """

    __slots__ = ("_limit", "_since", "count", "enough")

    def __init__(self, since: float, limit: int) -> None:
        self._since = since
        self._limit = limit
        self.count = 0
        self.enough = False

    def answered(self, batch: Batch, now: float, seconds: float) -> None:  # noqa: ARG002
        """Count the late ones."""
        since = self._since
        late = 0
        for entry in batch.entries:
            if entry.deadline < now and entry.arrived >= since:
                late += 1
        if late:
            self._miss(late)

    def refused(self, entry: Entry, error: JitneyError, now: float) -> None:  # noqa: ARG002
        """Count it."""
        if entry.arrived >= self._since:
            self._miss(1)

    def _miss(self, count: int) -> None:
        self.count += count
        self.enough = self.count > self._limit


@dataclass(slots=True)
class Group:
    """Requests that are counted together; ``latencies`` are those of all answers, in seconds."""

    in_time: int = 0
    late: int = 0
    latencies: list[float] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def total(self) -> int:
        """How many there were."""
        return self.in_time + self.late + sum(self.refusals.values())

    @property
    def share(self) -> float:
        """The share that was answered in time."""
        return self.in_time / self.total if self.total else 0.0

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies of answers; 0 where there are none."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else 0.0


class Tally:
    """Counts everything, by group, of arrivals in ``since`` … ``until``.

    After ``closes`` nobody who has all the time there is (no deadline) counts as answered: what
    would have waited for ever is answered then, because a simulation ends with empty queues.

    ``busy`` and ``wasted`` are device seconds of all batches, and of the rows in them that were
    late, whose callers had gone.
    """

    enough = False

    def __init__(
        self,
        since: float = 0.0,
        until: float = float("inf"),
        group: Callable[[Entry], Hashable] = lambda _: None,
        closes: float = float("inf"),
    ) -> None:
        self._since = since
        self._until = until
        self._group = group
        self._closes = closes
        self.groups: dict[Hashable, Group] = defaultdict(Group)
        self.busy = 0.0
        self.wasted = 0.0
        self.batches = 0

    def answered(self, batch: Batch, now: float, seconds: float) -> None:
        """Count a batch's answers."""
        self.busy += seconds
        self.batches += 1
        late_rows = 0
        for entry in batch.entries:
            late = entry.deadline < now
            if late:
                late_rows += entry.rows
            if self._since <= entry.arrived < self._until:
                group = self.groups[self._group(entry)]
                if now > self._closes and entry.deadline == NO_DEADLINE:
                    group.refusals[UNSERVED] += 1
                    continue
                group.latencies.append(now - entry.arrived)
                if late:
                    group.late += 1
                else:
                    group.in_time += 1
        self.wasted += seconds * late_rows / batch.rows

    def refused(self, entry: Entry, error: JitneyError, now: float) -> None:  # noqa: ARG002
        """Count a refusal under its reason."""
        if self._since <= entry.arrived < self._until:
            self.groups[self._group(entry)].refusals[error.reason] += 1

    @property
    def all(self) -> Group:
        """All groups together."""
        whole = Group()
        for group in self.groups.values():
            whole.in_time += group.in_time
            whole.late += group.late
            whole.latencies += group.latencies
            for reason, count in group.refusals.items():
                whole.refusals[reason] += count
        return whole
