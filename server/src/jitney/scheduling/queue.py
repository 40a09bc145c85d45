"""The entries that wait under one key, and what is known of their demand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jitney.scheduling.lane import Lane
from jitney.scheduling.load import Load

if TYPE_CHECKING:
    from jitney.scheduling.batch import BatchKey, Entry
    from jitney.scheduling.latency import LatencyModel

__all__ = ["KeyQueue"]

RATE_SPAN = 4.0
"""Over how many SLOs the rate of arrivals is averaged: at 16 the price reacts too late to save a
queue that overflows, at 1 it follows every gap."""
LONGEST_SPAN = 2.0
"""Seconds; who can wait for long must not keep a surge from being noticed."""
LEAST_SEEN = 1 / 2
"""Spans that count as seen at least: the first few arrivals tell nothing."""


class KeyQueue:
    """What waits under one key.

    ``timed`` has the entries that must leave by some moment, by that moment: ``Entry.position`` is
    the latest end of their batch. ``background`` has those without: by the tag of their flow
    (``fairness``).

    ``latency`` is how long batches take on the fastest device that has the model, as of the
    fleet's ``epoch``, and ``load`` what is asked of its group of devices. ``rate`` is the smoothed
    rate of arrival of timed rows, per second; ``slo`` the slack that three of four have on arrival.
    ``best_rows`` (scheduling theory's b*) is the batch size at which devices that share all queues
    in turn just keep that slack, and ``worth`` (p*) the rows per device second that it yields: both
    are the price's, see ``load``; so is ``row_seconds``, the least that a row can cost, and
    ``defers``: waiting for a larger batch saves more device time than it idles away.

    ``evidence_at`` is when the latencies were last learnt from, or doubted.
    """

    __slots__ = (
        "background",
        "best_rows",
        "defers",
        "epoch",
        "evidence_at",
        "key",
        "latency",
        "load",
        "rate",
        "rated_at",
        "rated_since",
        "row_seconds",
        "slo",
        "timed",
        "used_at",
        "worth",
    )

    def __init__(
        self, key: BatchKey, latency: LatencyModel, now: float, load: Load | None = None
    ) -> None:
        self.key = key
        self.latency = latency
        self.load = load or Load()
        self.timed = Lane()
        self.background = Lane()
        self.rate = 0.0
        self.rated_at = self.rated_since = self.used_at = self.evidence_at = now
        self.epoch = 0
        self.row_seconds = 0.0
        self.slo = 0.0
        self.best_rows = key.max_rows
        self.worth = 0.0
        self.defers = False

    def __len__(self) -> int:
        """Return the number of waiting entries."""
        return len(self.timed.entries) + len(self.background.entries)

    def __repr__(self) -> str:
        """Return a line for logs and tests."""
        return f"<KeyQueue {self.key.model} {len(self)} entries, {self.rows} rows>"

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self.timed.rows + self.background.rows

    @property
    def nbytes(self) -> int:
        """Bytes that wait."""
        return self.timed.nbytes + self.background.nbytes

    def is_full(self) -> bool:
        """Whether the next batch would have no room for another row of this key."""
        key, timed, background = self.key, self.timed, self.background
        return (
            timed.rows + background.rows >= key.max_rows
            or timed.nbytes + background.nbytes >= key.max_bytes
        )

    def last_moment(self, entry: Entry, margin: float) -> float:
        """Return when an entry must have started.

        :param margin: seconds that its reply takes beside the device's time.
        """
        return min(entry.deadline - self.latency.planned(entry.span) - margin, entry.start_by)

    def oldest(self) -> float:
        """Return when the first of those that wait arrived; O(entries)."""
        return min(
            entry.arrived for lane in (self.timed, self.background) for entry in lane.entries
        )

    @property
    def rate_span(self) -> float:
        """Seconds over which the rate is averaged."""
        return min(RATE_SPAN * self.slo, LONGEST_SPAN)

    def note_arrival(self, entry: Entry, now: float) -> None:
        """Count the demand of a timed entry, whether or not it is taken on."""
        slack = entry.position - now
        if slack <= 0:
            return
        slo = self.slo
        if not slo:
            self.slo = slack
            self.rated_since = now
        elif slack < slo:
            # A step of the first quartile's stochastic gradient; never past the sample itself.
            self.slo = max(slack, slo * 0.9625)
        elif slack > slo:
            self.slo = min(slack, slo * 1.0125)
        span = self.rate_span
        self.rate = self.rate * math.exp((self.rated_at - now) / span) + entry.rows / span
        self.rated_at = now

    def rate_at(self, now: float) -> float:
        """Return the rate of arrival of timed rows per second, decayed to ``now``."""
        if not self.rate:
            return 0.0
        return self.rate * math.exp((self.rated_at - now) / self.rate_span)

    def seen_at(self, now: float) -> float:
        """Return the part of the rate that is seen yet, as it begins at 0: from 0.4 to 1."""
        if not self.slo:
            return 1.0
        return 1 - math.exp(-max(LEAST_SEEN, (now - self.rated_since) / self.rate_span))
