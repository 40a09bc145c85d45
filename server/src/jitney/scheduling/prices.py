"""When the price of device time is worked out anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jitney.scheduling.backlog import Backlog
    from jitney.scheduling.fairness import Tenants
    from jitney.scheduling.fleet import Fleet
    from jitney.scheduling.load import Load
    from jitney.scheduling.queue import KeyQueue

__all__ = ["Prices"]

REPRICE_EVERY: Final = 0.01
REPRICE_SHARE: Final = 1 / 16
"""Parts of the shortest SLO after which the price is worked out anew, where that is sooner."""
REPRICE_LEAST: Final = 0.001
REPRICE_PER_QUEUE: Final = 2e-4
"""Seconds; a queue costs about 10 microseconds, and shapes come from the wire: it stays at 5 %."""
REFER_EVERY: Final = 1.0
"""Seconds between looking which device is the fastest for what."""


class Prices:
    """Keeps the load of every group of devices, and who is over their share, up to date.

    ``renew_at`` is when that is due; whoever uses the figures looks first. It is at once when
    devices or models came or went: groups are made anew then, and have no figures yet.
    """

    __slots__ = ("_backlog", "_fleet", "_referred_at", "_tenants", "renew_at")

    def __init__(self, backlog: Backlog, fleet: Fleet, tenants: Tenants) -> None:
        self._backlog = backlog
        self._fleet = fleet
        self._tenants = tenants
        self._referred_at = self.renew_at = float("-inf")

    def renew_soon(self) -> None:
        """Let it be due at once."""
        self.renew_at = float("-inf")

    def renew(self, now: float) -> None:
        """Work everything out anew; O(queues)."""
        queues, fleet = self._backlog.queues, self._fleet
        slo = min((queue.slo for queue in queues if queue.slo), default=1.0)
        soon = min(REPRICE_EVERY, max(REPRICE_LEAST, REPRICE_SHARE * slo))
        self.renew_at = now + max(soon, REPRICE_PER_QUEUE * len(queues))
        by_load: dict[Load, list[KeyQueue]] = {group.load: [] for group in fleet.groups}
        for queue in queues:
            queue.load = fleet.group(queue.key.model).load
            by_load[queue.load].append(queue)
        for group in fleet.groups:
            group.load.update(by_load[group.load], group.working, now)
        self._tenants.update(fleet.group, now)
        if now - self._referred_at >= REFER_EVERY:
            self._referred_at = now
            fleet.epoch += 1
        self._backlog.forget_idle()
