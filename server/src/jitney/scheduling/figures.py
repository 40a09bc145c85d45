"""What waits and what runs, as figures that any thread may read."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from jitney.scheduling.contract import PolicyStatistics
from jitney.scheduling.demand import demands

if TYPE_CHECKING:
    from jitney.scheduling.backlog import Backlog
    from jitney.scheduling.demand import Demand
    from jitney.scheduling.fleet import Fleet
    from jitney.scheduling.model_latency import ModelLatency
    from jitney.scheduling.retries import Retries
    from jitney.types import ModelRef

__all__ = ["Figures"]

_utilisation = operator.attrgetter("utilisation")


class Figures:
    """Reads what the policy decides with, and changes nothing.

    On any thread: what it walks is copied first, so that a figure may be a moment old and never
    ends in an error.
    """

    __slots__ = ("_backlog", "_fleet", "_retries")

    def __init__(self, backlog: Backlog, fleet: Fleet, retries: Retries) -> None:
        self._backlog = backlog
        self._fleet = fleet
        self._retries = retries

    def statistics(self) -> PolicyStatistics:
        """Return the current figures; on any thread."""
        waiting, devices = list(self._backlog.waiting), list(self._fleet)
        busiest = max((group.load for group in self._fleet.groups), key=_utilisation)
        return PolicyStatistics(
            queued_entries=sum(map(len, waiting)),
            queued_rows=sum(self._backlog.rows.values()),
            queues=len(waiting),
            running=sum(device.running is not None for device in devices),
            staged=sum(device.staged is not None for device in devices),
            utilisation=busiest.utilisation,
            pressure=busiest.pressure,
            tight=any(group.load.tight for group in self._fleet.groups),
        )

    def waiting_models(self) -> set[ModelRef]:
        """Return the models that have entries waiting, parts of failed batches included."""
        return set(self._backlog.rows) | self._retries.models()

    def queued_rows(self) -> dict[ModelRef, int]:
        """Return how many rows of each model are waiting; a copy, safe to read anywhere."""
        return dict(self._backlog.rows)

    def queued_entries(self) -> dict[ModelRef, int]:
        """Return how many entries of each model are waiting; on any thread."""
        count: dict[ModelRef, int] = {}
        for queue in list(self._backlog.queues):
            model = queue.key.model
            count[model] = count.get(model, 0) + len(queue)
        return count

    def latencies(self) -> list[ModelLatency]:
        """Return what is known of how long batches take, by device and model; on any thread."""
        return self._fleet.latencies()

    def demands(self, now: float) -> dict[ModelRef, Demand]:
        """Return what is asked for, by model; models that nobody asks for are not there."""
        return demands(self._backlog.queues, now)
