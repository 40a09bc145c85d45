"""Who is visited when."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from benchmarks.compare.figures import Place, rotated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.compare.entrants import Entrant
    from benchmarks.comparison import Effort

__all__ = ["take_turns"]


def take_turns(
    entrants: Mapping[str, Entrant], concurrency: int, effort: Effort, say: Callable[[str], None]
) -> dict[str, Place]:
    """Visit every entrant once a round; return what was seen, in the order of the entrants.

    One round comes before those that count: programs compile, caches and heaps grow. An entrant
    whose visit gives no figure is not visited again: what it would show is void already, and the
    time belongs to the others.

    :param say: told of every round, and of who is void.
    """
    places = {title: Place() for title in entrants}
    for nth in range(effort.rounds + 1):
        for title in rotated(list(places), nth):
            place = places[title]
            if place.void:
                continue
            others_cpu = functools.partial(_others_cpu, entrants, title)
            visit, place.void = entrants[title].visit(concurrency, effort.seconds, others_cpu)
            if place.void:
                say(f"{title} is void: {place.void}")
            elif visit is not None and nth:
                place.visits.append(visit)
        say(f"round {nth} of {effort.rounds}")
    return places


def _others_cpu(entrants: Mapping[str, Entrant], title: str) -> float:
    """Return the CPU seconds so far of all entrants but one."""
    return sum(one.cpu_seconds() for name, one in entrants.items() if name != title)
