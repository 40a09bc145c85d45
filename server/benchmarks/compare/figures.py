"""What was seen of the peers, and the ratios of ours to each."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from benchmarks.comparison import Ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.usage import Memory

__all__ = [
    "FIGURES",
    "ModelResult",
    "Place",
    "Point",
    "Spread",
    "Visit",
    "ratio",
    "rotated",
    "spread",
    "visit_of",
    "void_reason",
]

Figure = Literal["rate", "p50_ms", "p99_ms", "cpu_us"]
FIGURES: Final[tuple[Figure, ...]] = ("rate", "p50_ms", "p99_ms", "cpu_us")


class Visit(NamedTuple):
    """What one visit to a peer showed: requests per second, latencies, server CPU per request.

    ``caller_busy`` and ``others_busy`` are CPU seconds per second of the callers, and of all peers
    that were not visited: what was not the visited one's to use.
    """

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    caller_busy: float
    others_busy: float


class Spread(NamedTuple):
    """The median of some rounds, with the least and the greatest."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class Place:
    """A peer at one point: its visits, or why there is no figure."""

    visits: list[Visit] = field(default_factory=list)
    void: str = ""

    def of(self, figure: Figure) -> Spread:
        """Return a figure's spread over the visits."""
        return spread([getattr(visit, figure) for visit in self.visits])


@dataclass(slots=True)
class Point:
    """One model at one concurrency, the peers by their titles in the order of the table."""

    model: str
    concurrency: int
    connections: int
    callers: str
    places: dict[str, Place]
    ratios: list[Ratio] = field(default_factory=list)


@dataclass(slots=True)
class ModelResult:
    """Everything about one model; ``absent`` has the reason for each peer that has no place."""

    model: str
    absent: dict[str, str]
    notes: list[str]
    points: list[Point] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)


def rotated(labels: Sequence[str], nth: int) -> list[str]:
    """Return the order of round ``nth``: each round begins one further on."""
    if not labels:
        return []
    first = nth % len(labels)
    return [*labels[first:], *labels[:first]]


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and greatest.

    :raises statistics.StatisticsError: when there are none.
    """
    return Spread(statistics.median(values), min(values, default=0.0), max(values, default=0.0))


def visit_of(seen: Mapping[str, Any], server_cpu: float, others_cpu: float) -> Visit:
    """Return the visit in which callers saw ``seen`` while CPU seconds were spent."""
    seconds, requests = seen["seconds"], seen["requests"]
    return Visit(
        requests,
        requests / seconds,
        seen["p50_ms"],
        seen["p99_ms"],
        1e6 * server_cpu / requests,
        seen["cpu_seconds"] / seconds,
        others_cpu / seconds,
    )


def void_reason(seen: Mapping[str, Any]) -> str:
    """Return why what callers saw gives no figure; empty when it does."""
    requests, wrong, failed = seen["requests"], seen["wrong"], seen["failed"]
    if wrong:
        return f"{wrong} of {requests} answers were wrong: {seen['example']}"
    if failed:
        return f"{failed} calls failed beside {requests} answered: {seen['example']}"
    return "" if requests else "nothing was answered"


def ratio(
    places: Mapping[str, Place],
    over: str,
    under: str,
    figure: Figure,
    bar: tuple[float, bool] | None = None,
) -> Ratio | None:
    """Return the ratio of a figure of two peers, round by round; None where one is void.

    :param bar: what is aimed at, and whether at most it (else at least it).
    """
    a, b = places.get(over), places.get(under)
    if a is None or b is None or a.void or b.void:
        return None
    pairs = zip(a.visits, b.visits, strict=True)
    values = [getattr(one, figure) / max(getattr(other, figure), 1e-9) for one, other in pairs]
    aim, at_most = bar or (None, False)
    return Ratio(f"{figure} over {under}", *spread(values), aim, at_most)
