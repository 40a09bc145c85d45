"""How much is asked of the devices, and so what a second of theirs is worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from jitney.scheduling.queue import KeyQueue

__all__ = ["Load"]

LEAST_PRESSURE: Final = 0.65
RISES_FROM: Final = 1.0
FULL_AT: Final = 1.1
"""The utilisations from which the price of device time rises, and at which it is full."""
BACKLOG: Final = 1.7
"""Rates alone react too late near capacity; what waits counts this much of a SLO's work."""
GROSS: Final = 1.5
"""A rate that has just begun is only believed to be higher than it was seen to be when it is this
much over capacity: then a server should not meet its first burst with the prices of an idle one;
below, the correction is mostly noise."""
MOST: Final = 2.0
"""The utilisation up to which rates are remembered."""
RARE: Final = 0.5
"""Rows in a SLO; nobody waits for the sake of a queue with less."""
DEFERS_FROM: Final = 0.6
"""The utilisation from which saving device time by waiting for larger batches is worth anything."""


class Load:
    """The price of the time of a group of devices, from the rates of arrival and what waits.

    ``utilisation`` (rho) is demand over capacity, both in device seconds per second at each queue's
    best batch size. ``pressure`` (f) is the part of its full price that device time is worth:
    0.65 while there is room, so that urgent entries are only given up when that clearly enlarges
    the batch behind them, and 1 when there is too much work, so that as many rows as possible are
    answered. ``tight``: more is asked for than there is. ``shortest`` is the least slack, in
    seconds, of the queues that see deadlines now; infinite where there are none, and ``longest``
    the longest of their best batches, 0 where there is only one of them. ``turns`` is how often a
    batch's time fits into the slack of its entries when all queues take turns. ``work`` are the
    device seconds, at least, of all that waits with a deadline.
    """

    __slots__ = (
        "active",
        "demand",
        "longest",
        "pressure",
        "shortest",
        "tight",
        "turns",
        "utilisation",
        "work",
    )

    def __init__(self) -> None:
        self.utilisation = 0.0
        self.pressure = LEAST_PRESSURE
        self.demand = 0.0
        self.active = 0.0
        self.shortest = math.inf
        self.turns = 2.0
        self.longest = 0.0
        self.work = 0.0
        self.tight = False

    def update(self, queues: Collection[KeyQueue], devices: int, now: float) -> None:
        """Work everything out anew; O(queues).

        :param queues: those of the models that the devices run.
        """
        devices = max(1, devices)
        rates = [(queue, queue.rate_at(now)) for queue in queues if queue.slo]
        # A queue that sees less than one row in a SLO has no cycle to share.
        self.active = sum(min(1.0, rate * queue.slo) for queue, rate in rates)
        self.shortest = min((q.slo for q, rate in rates if rate * q.slo > RARE), default=math.inf)
        self.turns = turns = 1 + max(1.0, self.active) / devices
        demand = backlog = corrected = work = 0.0
        lengths: list[float] = []
        for queue, rate in rates:
            value(queue, queue.slo / turns)
            if not queue.worth:
                continue
            demand += rate / queue.worth
            corrected += rate / queue.worth / queue.seen_at(now)
            work += queue.timed.rows * queue.row_seconds
            backlog += queue.timed.rows / (queue.worth * queue.slo)
            if rate * queue.slo > RARE:
                lengths.append(queue.best_rows / queue.worth)
        if demand > MOST * devices:
            # What is asked beyond makes no difference now, and would have to decay afterwards.
            for queue, _ in rates:
                queue.rate *= MOST * devices / demand
        if corrected > GROSS * devices:
            demand = corrected
        self.work = work
        self.longest = max(lengths) if len(lengths) > 1 else 0.0
        self.demand = demand
        self.utilisation = max(demand, BACKLOG * backlog) / devices
        self.tight = demand > devices
        rise = (1 - LEAST_PRESSURE) / (FULL_AT - RISES_FROM)
        raw = LEAST_PRESSURE + rise * (self.utilisation - RISES_FROM)
        self.pressure = min(1.0, max(LEAST_PRESSURE, raw))
        busy = self.utilisation > DEFERS_FROM
        for queue, rate in rates:
            saved = rate * (1 / queue.worth - queue.latency.alpha) if queue.worth else 0.0
            queue.defers = busy and saved > 1


def value(queue: KeyQueue, longest: float) -> None:
    """Set a queue's best batch size and what a device second yields at it.

    :param longest: seconds that its batches may take, at most.
    """
    latency = queue.latency
    rows = min(max(latency.rows_within(longest), latency.padded(1)), queue.key.max_rows)
    seconds = latency.planned(rows)
    queue.best_rows = rows
    queue.row_seconds = min(latency.alpha, latency.row_seconds)
    queue.worth = rows / seconds if seconds > 0 else 0.0
