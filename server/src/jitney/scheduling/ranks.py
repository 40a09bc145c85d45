"""Who goes first within a queue, when there is not enough for all."""

from __future__ import annotations

import operator
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from jitney.scheduling.batch import PRIORITIES
from jitney.scheduling.plan import Plan, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.scheduling.batch import Entry
    from jitney.scheduling.fairness import Tenants
    from jitney.scheduling.latency import LatencyModel
    from jitney.scheduling.plan import Terms
    from jitney.scheduling.queue import KeyQueue

__all__ = ["Ranked", "Ranks"]

HORIZON: Final = 9
"""How many best batches of entries are looked at: what may be given up, and as much again."""
PROTECTED: Final = 8.0
"""What a row of a tenant within its share counts when it is to be given up, in rows of others."""
FILL: Final = 0.5
"""Part of the time that protected entries have left to which their batch may be filled up: so the
less they have, the less is filled, and they never come to live at the edge of their deadlines."""
LEAST_FILL: Final = 0.15
"""Part of what is left beside their own batch that others get in any case: where a batch has a
high fixed cost, some may ride along for next to nothing."""
BLIND: Final = 20
"""One batch of so many is formed without regard to classes, so that none starves."""

_position = operator.attrgetter("position")


class Ranked(NamedTuple):
    """The best rank in a queue, who is given up and who is taken, and the plan of it.

    ``latest`` is when those of that rank must start: what fills the batch up does not make it more
    urgent.
    """

    rank: int
    latest: float
    victims: Sequence[Entry]
    chosen: Sequence[Entry]
    plan: Plan


class Ranks:
    """Tenants within their share before those beyond it, then classes of priority."""

    __slots__ = ("_batches", "_tenants")

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._batches = 0

    def count_batch(self) -> None:
        """Count a batch that was formed by rank."""
        self._batches += 1

    def rank(self, entry: Entry) -> int:
        """Return the rank of an entry; less goes first."""
        over = PRIORITIES if self._tenants.is_over(entry) else 0
        return over if self._batches % BLIND == BLIND - 1 else over + entry.priority

    def plan(
        self,
        queue: KeyQueue,
        latency: LatencyModel,
        terms: Terms,
        others: Sequence[float] = (),
    ) -> Ranked | None:
        """Plan for the best rank alone, then let the others fill the batch.

        Only entries of the rank that is planned for are given up; the others expire in their own
        time. Within a rank, tenants take turns by what they were given. None if nothing fits.

        :param others: when the other devices will be free, ascending.
        """
        limit = terms.max_rows
        lane = queue.timed
        soonest = terms.start + latency.planned(1)
        first = bisect_left(lane.positions, soonest)  # those before it would be late anyhow
        entries = lane.entries[first : first + HORIZON * queue.best_rows]
        by_rank: dict[int, list[Entry]] = {}
        for entry in entries:
            by_rank.setdefault(self.rank(entry), []).append(entry)
        contested = queue.key.model in self._tenants.contested
        if contested:
            # However worthwhile a larger batch of the others: the protected would wait for it.
            widest = max((entry.rows for entry in entries), default=0)
            terms = terms._replace(max_rows=min(terms.max_rows, max(queue.best_rows, widest)))
        for rank in sorted(by_rank):
            core = by_rank.pop(rank)
            within = contested and rank < PRIORITIES
            made = plan(core, latency, terms._replace(keep=PROTECTED) if within else terms)
            if made.rows:
                break
        else:
            return None
        chosen = self._share(core, made, terms.max_bytes, queue.worth)
        latest = min(map(_position, chosen)) - latency.planned(made.rows)
        rest = [entry for other in sorted(by_rank) for entry in by_rank[other]]
        most = queue.best_rows
        if within:
            own = latency.planned(made.rows)
            left = min(map(_position, chosen)) - terms.start
            longest = max(FILL * left, own + LEAST_FILL * (left - own))
            length = _staggered(terms.start, longest, others)
            most = min(most, latency.rows_within(length))
        rows, nbytes, cut = _fill(chosen, rest, latency, terms, max(made.rows, most))
        chosen.sort(key=_position)
        full = rows >= limit or nbytes >= terms.max_bytes
        made = made._replace(rows=rows, cut=made.cut or cut, full=full)
        return Ranked(rank, latest, core[made.skip : made.first], chosen, made)

    def _share(
        self, core: Sequence[Entry], made: Plan, max_bytes: int, worth: float
    ) -> list[Entry]:
        """Return entries for the rows of a plan, tenants taking turns.

        All behind the plan's first are due after it, so any that make no more rows are in time.
        """
        planned = list(core[made.first : made.end])
        by_tenant: dict[str, list[Entry]] = {}
        for entry in core[made.first :]:
            by_tenant.setdefault(entry.tenant, []).append(entry)
        if len(by_tenant) == 1 or not worth:
            return planned
        served = {tenant: self._tenants.served.get(tenant, 0.0) for tenant in by_tenant}
        heads = {tenant: iter(entries) for tenant, entries in by_tenant.items()}
        chosen: list[Entry] = []
        rows = nbytes = 0
        while heads:
            tenant = min(heads, key=served.__getitem__)
            head = next(heads[tenant], None)
            if head is None:
                del heads[tenant]
                continue
            if rows + head.rows > made.rows or nbytes + head.nbytes > max_bytes:
                break
            chosen.append(head)
            rows += head.rows
            nbytes += head.nbytes
            served[tenant] += head.rows / worth / self._tenants.weight(tenant)
        return chosen or planned


def _staggered(start: float, longest: float, others: Sequence[float]) -> float:
    """Return how long a device should take so that it ends apart from the others.

    Batches that are filled up to the same length end together, and whoever arrives next waits for
    all of them. Ending in the middle of the longest time in which no device becomes free keeps
    them apart.
    """
    ends = [start, *(end for end in others if start < end < start + longest), start + longest]
    gap, before = max((after - before, before) for before, after in pairwise(ends))
    return longest if before + gap >= ends[-1] else before + gap / 2 - start


def _fill(
    chosen: list[Entry], rest: Sequence[Entry], latency: LatencyModel, terms: Terms, most: int
) -> tuple[int, int, bool]:
    """Add entries to a batch while all of it stays in time; up to ``most`` rows.

    Whoever has the time for the whole batch goes first: one that is in a hurry would make it
    shorter for all that could still join.

    :returns: its rows, its bytes, and whether anybody did not fit.
    """
    rows = sum(entry.rows for entry in chosen)
    nbytes = sum(entry.nbytes for entry in chosen)
    due = min(entry.position for entry in chosen)
    most = min(most, terms.max_rows)
    end = terms.start + latency.planned(most)
    patient = [entry for entry in rest if entry.position >= end]
    hurried = [entry for entry in reversed(rest) if entry.position < end]
    cut = False
    for entry in (*patient, *hurried):
        if rows >= most:
            return rows, nbytes, True
        room = min(most, latency.rows_within(min(due, entry.position) - terms.start))
        if rows + entry.rows > room or nbytes + entry.nbytes > terms.max_bytes:
            cut = True
            continue
        chosen.append(entry)
        rows += entry.rows
        nbytes += entry.nbytes
        due = min(due, entry.position)
    return rows, nbytes, cut
