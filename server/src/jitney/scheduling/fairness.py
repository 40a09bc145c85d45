"""Whose turn it is, when there is not enough for all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from jitney.scheduling.batch import NORMAL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from jitney.scheduling.batch import Entry
    from jitney.types import ModelRef

    Party = tuple[str, ModelRef]
    Flow = tuple[str, int, ModelRef]

__all__ = ["Flows", "Tenants"]

K = TypeVar("K")

CLASS_SHARES: Final = (19.0**2, 19.0, 1.0)
"""Shares of the classes of priority among requests without deadline: practically strict, and yet a
lower class is left one part in twenty and so never starves."""
NOTHING: Final = 1e-6
"""Device seconds per second; a tenant that asks for less is forgotten."""
REMEMBERED: Final = 1024
"""Flows and tenants remembered; names of tenants come from the wire."""


class Flows:
    """Start-time fair queueing of the requests that have no deadline.

    A flow is a tenant's requests to one model in one class. Every entry is tagged on arrival with
    the virtual time at which its flow, had it the devices in proportion to its share, would come
    to it. Entries leave by tag: a lone flow is served first come, first served, several in
    proportion, and one that was idle has saved nothing up. Virtual time is the tag of whatever
    left last.
    """

    __slots__ = ("_ends", "_virtual", "_waiting", "_weights")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._virtual = 0.0
        self._ends: dict[Flow, float] = {}
        self._waiting: dict[Flow, int] = {}

    def tag(self, entry: Entry, seconds: float) -> float:
        """Return the tag of an entry that will take ``seconds`` of a device."""
        flow = (entry.tenant, entry.priority, entry.key.model)
        self._waiting[flow] = self._waiting.get(flow, 0) + 1
        start = max(self._virtual, self._ends.get(flow, 0.0))
        share = self._weights.get(entry.tenant, 1.0) * CLASS_SHARES[entry.priority]
        if len(self._ends) >= REMEMBERED:
            self._ends = {f: end for f, end in self._ends.items() if end > self._virtual}
            if len(self._ends) >= REMEMBERED:
                self._ends.clear()  # that many backlogged flows: fairness starts afresh
        self._ends[flow] = start + seconds * CLASS_SHARES[NORMAL] / share
        return start

    def back(self, entry: Entry) -> None:
        """Note that an entry waits again, with its tag."""
        flow = (entry.tenant, entry.priority, entry.key.model)
        self._waiting[flow] = self._waiting.get(flow, 0) + 1

    def left(self, entries: Sequence[Entry]) -> None:
        """Note that entries were served."""
        for entry in entries:
            self._virtual = max(self._virtual, entry.position)
            self._count_out(entry)

    def withdraw(self, entry: Entry) -> None:
        """Note that an entry left without being served.

        What its flow was charged for it is forgotten once nothing else of it waits: earlier, and
        newcomers would overtake those of their own flow that do.
        """
        flow = self._count_out(entry)
        if flow not in self._waiting:
            self._ends.pop(flow, None)

    def _count_out(self, entry: Entry) -> Flow:
        flow = (entry.tenant, entry.priority, entry.key.model)
        left = self._waiting[flow] - 1
        if left:
            self._waiting[flow] = left
        else:
            del self._waiting[flow]
        return flow


LEAST_SEEN: Final = 1 / 16
"""Part of the span that must have passed for a rate to be taken for what was seen of it."""


class _Demand:
    """A smoothed rate: device seconds per second."""

    __slots__ = ("noted_at", "rate", "since", "span")

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        self.noted_at = self.since = now
        self.span = 1.0

    def rate_at(self, now: float) -> float:
        """Return the rate, decayed to ``now``, and corrected for how short it was looked at."""
        seen = 1 - math.exp(min(self.since - now, -LEAST_SEEN * self.span) / self.span)
        return self.smoothed(now) / seen

    def smoothed(self, now: float) -> float:
        """Return the rate, decayed to ``now``, as if nothing had come before the first."""
        return self.rate * math.exp((self.noted_at - now) / self.span)


class Capacity(Protocol):
    """Devices that share models; ``working`` is how many of them there are for requests."""

    @property
    def models(self) -> Collection[ModelRef]:
        """What they run."""

    @property
    def working(self) -> float:
        """How many there are."""


class Tenants:
    """Who asks for more than the share of devices that are asked for too much.

    The share is a water level: fill every tenant's cup to its demand, or to the same level times
    its weight, until the devices are used up. What a tenant is left is filled into the cups of its
    models in the same way; so one busy model does not take it all either. ``over`` are the parties,
    a tenant's requests to one model, that ask for more. All of it is worked out for each group of
    devices by itself; ``contested`` are the models of the groups in which somebody is over.

    Demand is in device seconds per second, smoothed over ``SPAN``. While there is room for all
    nobody is over; nor where there is no clear difference between those who are and those who are
    not, because then chance would tell them apart.
    """

    SPAN: Final = 32.0
    """In SLOs: eight times as long as the price's, because who is taken for greedy for the length
    of a random burst loses real requests."""
    LONGEST_SPAN: Final = 8.0
    """Seconds."""
    TOLERANCE: Final = 1.2
    DIFFERENCE: Final = 1.25

    __slots__ = ("_demands", "_weights", "contested", "over", "served")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._demands: dict[Party, _Demand] = {}
        self.over: frozenset[Party] = frozenset()
        self.contested: frozenset[ModelRef] = frozenset()
        self.served: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many tenants there are."""
        return len(self.served)

    def note_arrival(self, entry: Entry, seconds: float, slo: float, now: float) -> None:
        """Count demand of ``seconds`` of a device."""
        party = (entry.tenant, entry.key.model)
        demand = self._demands.get(party)
        if demand is None:
            if len(self._demands) >= REMEMBERED:
                least = sorted(self._demands, key=lambda p: self._demands[p].rate)
                self._forget(least[: REMEMBERED // 2])
            demand = self._demands[party] = _Demand(now)
            if entry.tenant not in self.served:
                # One that returns starts where the others are, or it would live on old savings.
                self.served[entry.tenant] = min(self.served.values(), default=0.0)
        demand.span = min(self.SPAN * slo, self.LONGEST_SPAN)
        demand.rate = demand.smoothed(now) + seconds / demand.span
        demand.noted_at = now

    def _forget(self, parties: Iterable[Party]) -> None:
        for party in parties:
            del self._demands[party]
        known = {tenant for tenant, _ in self._demands}
        self.served = {tenant: given for tenant, given in self.served.items() if tenant in known}

    def weight(self, tenant: str) -> float:
        """Return a tenant's weight, 1 where nothing was said."""
        return self._weights.get(tenant, 1.0)

    def is_over(self, entry: Entry) -> bool:
        """Whether an entry's tenant asks for more than its share, for its model."""
        return (entry.tenant, entry.key.model) in self.over

    def update(self, group_of: Callable[[ModelRef], Capacity], now: float) -> None:
        """Find out who is over; O(parties log parties).

        :param group_of: returns the devices that share models with those that run one.
        """
        rates = {party: demand.rate_at(now) for party, demand in self._demands.items()}
        if gone := [party for party, rate in rates.items() if rate < NOTHING]:
            self._forget(gone)
        by_group: dict[Capacity, dict[Party, float]] = {}
        for party, rate in rates.items():
            by_group.setdefault(group_of(party[1]), {})[party] = rate
        over: set[Party] = set()
        contested: set[ModelRef] = set()
        for group, asked in by_group.items():
            if found := self._find_over(asked, max(1.0, group.working)):
                over |= found
                contested.update(group.models)
        self.over, self.contested = frozenset(over), frozenset(contested)

    def _find_over(self, rates: Mapping[Party, float], devices: float) -> set[Party]:
        """Return who asks for more than the share of some devices."""
        if len(rates) < 2 or sum(rates.values()) <= devices:  # noqa: PLR2004  # room for all
            return set()
        usage = self._usage(rates, devices)
        over = {party for party, used in usage.items() if used > self.TOLERANCE}
        within = [used for party, used in usage.items() if party not in over]
        if over and within and min(usage[p] for p in over) > self.DIFFERENCE * max(within):
            return over
        return set()

    def _usage(self, rates: Mapping[Party, float], devices: float) -> dict[Party, float]:
        """Return everybody's demand over their share."""
        by_tenant: dict[str, dict[Party, float]] = {}
        for party, rate in rates.items():
            by_tenant.setdefault(party[0], {})[party] = rate
        totals = {tenant: sum(parties.values()) for tenant, parties in by_tenant.items()}
        level = _water_level(totals, {tenant: self.weight(tenant) for tenant in totals}, devices)
        usage: dict[Party, float] = {}
        for tenant, parties in by_tenant.items():
            share = level * self.weight(tenant)
            used = totals[tenant] / share
            if used <= self.TOLERANCE:
                usage |= dict.fromkeys(parties, used)
            else:
                inner = _water_level(parties, dict.fromkeys(parties, 1.0), share)
                usage |= {party: rate / inner for party, rate in parties.items()}
        return usage

    def charge(self, tenant: str, seconds: float) -> None:
        """Count what a tenant was given."""
        if tenant in self.served:  # not forgotten meanwhile
            self.served[tenant] += seconds / self.weight(tenant)


def _water_level(demands: Mapping[K, float], weights: Mapping[K, float], capacity: float) -> float:
    """Return the level at which cups of these weights, filled to demand at most, hold all."""
    left = capacity
    weight = sum(weights.values())
    level = left / weight
    for key in sorted(demands, key=lambda k: demands[k] / weights[k]):
        level = left / weight
        if demands[key] > level * weights[key]:
            break
        left -= demands[key]
        weight -= weights[key]
        if weight <= 0:
            break
    return level
